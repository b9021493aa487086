// Reads a scenario from YAML. Whatever is unknown, missing or of the wrong kind is refused with the key's
// path.

import LoadEngine
import Yams

package struct ScenarioError: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
}

/// One mapping of the file, whose keys must all be used.
private final class Keys {
    private let path: String
    private var rest: [String: Node] = [:]

    init(_ node: Node, _ path: String) throws(ScenarioError) {
        self.path = path
        guard let mapping = node.mapping else {
            throw ScenarioError(description: "\(path): must be a mapping")
        }
        for (key, value) in mapping {
            guard let key = key.string, rest[key] == nil else {
                throw ScenarioError(description: "\(path): a key is not text, or is duplicated")
            }
            rest[key] = value
        }
    }

    func path(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func take(_ key: String) -> Node? { rest.removeValue(forKey: key) }

    func text(_ key: String) throws(ScenarioError) -> String? {
        guard let node = take(key) else { return nil }
        guard let text = node.scalar?.string else {
            throw ScenarioError(description: "\(path(key)): must be a plain value")
        }
        return text
    }

    func number(_ key: String, _ range: ClosedRange<Int>) throws(ScenarioError) -> Int? {
        guard let text = try text(key) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw ScenarioError(
                description:
                    "\(path(key)): '\(text)' is not an integer from \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return number
    }

    func needed<Value>(_ key: String, _ value: Value?) throws(ScenarioError) -> Value {
        guard let value else { throw ScenarioError(description: "\(path(key)): is missing") }
        return value
    }

    func list(_ key: String) throws(ScenarioError) -> [Node] {
        guard let node = take(key) else { return [] }
        guard let sequence = node.sequence else {
            throw ScenarioError(description: "\(path(key)): must be a list")
        }
        return Array(sequence)
    }

    func finish() throws(ScenarioError) {
        guard let key = rest.keys.sorted().first else { return }
        throw ScenarioError(description: "\(path(key)): unknown key")
    }
}

extension Scenario {
    /// - Parameter name: what the scenario is called in reports.
    package init(yaml: String, name: String) throws(ScenarioError) {
        self.init(name: name)
        let root: Node?
        do {
            root = try Yams.compose(yaml: yaml)
        } catch {
            throw ScenarioError(description: "no YAML: \("\(error)".split(separator: "\n").first ?? "")")
        }
        guard let root else { throw ScenarioError(description: "the file is empty") }
        let keys = try Keys(root, "")
        summary = try keys.needed("summary", keys.text("summary"))
        limitSeconds = try keys.number("limit-seconds", 1...7_200) ?? limitSeconds
        clientCore = try keys.number("client-core", 0...1_023)
        clientThreads = try keys.number("client-threads", 1...256) ?? clientThreads
        if let node = keys.take("servers") { servers = try Self.servers(Keys(node, "servers")) }
        for (index, node) in try keys.list("groups").enumerated() {
            groups.append(try Self.group(Keys(node, "groups[\(index)]")))
        }
        for (index, node) in try keys.list("steps").enumerated() {
            steps.append(try Self.step(Keys(node, "steps[\(index)]"), groups))
        }
        for (index, node) in try keys.list("goals").enumerated() {
            goals.append(try Self.goal(Keys(node, "goals[\(index)]")))
        }
        try keys.finish()
        guard !steps.isEmpty else { throw ScenarioError(description: "steps: is empty") }
        guard !groups.contains(where: \.isFloor) || servers.hasFloor else {
            throw ScenarioError(description: "groups: one has server: floor, but servers.floor is not true")
        }
    }

    private static func servers(_ keys: Keys) throws(ScenarioError) -> Servers {
        var servers = Servers()
        servers.gateways = try keys.number("gateways", 1...200) ?? servers.gateways
        servers.core = try keys.number("core", 0...1_023)
        servers.hasFloor = try keys.text("floor") == "true"
        servers.neededMegabytes = try keys.number("needed-megabytes", 0...1 << 24) ?? 0
        if let node = keys.take("settings") {
            guard let mapping = node.mapping else {
                throw ScenarioError(description: "servers.settings: must be a mapping")
            }
            servers.settings = mapping.map { ($0.key.string ?? "", $0.value.scalar?.string ?? "") }
        }
        try keys.finish()
        return servers
    }

    private static func group(_ keys: Keys) throws(ScenarioError) -> Group {
        var group = Group()
        group.name = try keys.needed("name", keys.text("name"))
        group.isFloor = try keys.text("server") == "floor"
        group.watchers = try keys.needed("watchers", keys.number("watchers", 1...10_000_000))
        group.auctions = try keys.number("auctions", 1...200_000) ?? group.auctions
        group.slowPerMille = try keys.number("slow-per-mille", 0...1_000) ?? 0
        group.stalledPerMille = try keys.number("stalled-per-mille", 0...1_000) ?? 0
        group.tls = try keys.text("tls") == "true"
        group.deflates = try keys.text("deflate") == "true"
        group.connectRate = try keys.number("connect-rate", 1...1_000_000) ?? group.connectRate
        group.fillerBytes = try keys.number("filler-bytes", 0...8_192) ?? 0
        group.losslessEvery = try keys.number("lossless-every", 0...1_000_000) ?? group.losslessEvery
        var transports: [CrowdTransport] = []
        for node in try keys.list("transports") {
            guard let transport = CrowdTransport(rawValue: node.scalar?.string ?? "") else {
                throw ScenarioError(
                    description: "\(keys.path("transports")): each is one of "
                        + CrowdTransport.allCases.map(\.rawValue).joined(separator: ", "))
            }
            transports.append(transport)
        }
        if !transports.isEmpty { group.transports = transports }
        guard !(group.tls && group.isFloor) else {
            throw ScenarioError(description: "\(keys.path("tls")): the floor speaks no TLS")
        }
        try keys.finish()
        return group
    }

    private static func plan(_ keys: Keys) throws(ScenarioError) -> PublishingPlan {
        let rate = try keys.needed("rate", keys.number("rate", 1...1_000_000))
        let events = try keys.needed("events", keys.number("events", 1...10_000_000))
        return PublishingPlan(
            rate: Double(rate), events: events, burst: try keys.number("burst", 1...10_000) ?? 1)
    }

    private static func step(_ keys: Keys, _ groups: [Group]) throws(ScenarioError) -> Named {
        let kind = try keys.needed("do", keys.text("do"))
        let name = try keys.text("name") ?? kind
        func group(_ key: String) throws(ScenarioError) -> String {
            let text = try keys.text(key) ?? groups.first?.name
            guard let text, groups.contains(where: { $0.name == text }) else {
                throw ScenarioError(description: "\(keys.path(key)): names no group")
            }
            return text
        }
        let step: Step
        switch kind {
        case "connect":
            step = .connect(group: try group("group"), to: try keys.number("to", 1...10_000_000) ?? 0)
        case "publish":
            let named = try group("group")
            let plan = try plan(keys)
            var meanwhile: [Named] = []
            for (index, node) in try keys.list("meanwhile").enumerated() {
                meanwhile.append(try Self.step(Keys(node, keys.path("meanwhile[\(index)]")), groups))
            }
            step = .publish(group: named, plan, meanwhile: meanwhile)
        case "compare":
            step = .compare(
                groups: groups.map(\.name), pairs: try keys.number("pairs", 1...1_000) ?? 7, try plan(keys))
        case "rest": step = .rest(seconds: try keys.needed("seconds", keys.number("seconds", 1...3_600)))
        case "idle": step = .idle(seconds: try keys.needed("seconds", keys.number("seconds", 1...3_600)))
        case "memory": step = .memory(since: try keys.text("since"))
        case "disconnect": step = .disconnect(group: try group("group"))
        case "restart-redis":
            step = .restartRedis(
                outageSeconds: try keys.needed("outage-seconds", keys.number("outage-seconds", 0...600)))
        case "restart-gateways": step = .restartGateways
        case "hand-over": step = .handOver(times: try keys.number("times", 1...1_000) ?? 1)
        case "settle": step = .settle
        case "kernel":
            step = .kernel(
                sockets: try keys.number("sockets", 1...9_500) ?? 5_000,
                bytes: try keys.number("bytes", 1...65_536) ?? 280,
                rounds: try keys.number("rounds", 1...1_000) ?? 9)
        default: throw ScenarioError(description: "\(keys.path("do")): '\(kind)' is not a step")
        }
        try keys.finish()
        return Named(name: name, step: step)
    }

    private static func goal(_ keys: Keys) throws(ScenarioError) -> Goal {
        func number(_ key: String) throws(ScenarioError) -> Double? {
            guard let text = try keys.text(key) else { return nil }
            guard let number = Double(text) else {
                throw ScenarioError(description: "\(keys.path(key)): '\(text)' is not a number")
            }
            return number
        }
        let goal = Goal(
            figure: try keys.needed("figure", keys.text("figure")), atMost: try number("at-most"),
            atLeast: try number("at-least"))
        try keys.finish()
        return goal
    }
}
