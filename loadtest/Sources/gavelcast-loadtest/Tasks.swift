// What the commands do, in terms of the engine.

import AuctionStore
import Foundation
import Histogram
import LoadEngine
import LoadRun
import Reactor
import RedisLink
import Settings
import Synchronization

/// A file of watchers' accounts.
struct AccountsFile: Codable {
    let auctions: [String]
    let shards: [ShardAccounts]
}

/// A file of what was published.
struct TruthFile: Codable {
    let auctions: [String]
    let truth: [AuctionTruth]
}

enum Tasks {
    /// What is wrong with the settings beyond their table.
    static func check(_ command: Command, _ values: SettingsValues, scenario: String?) throws(SettingsError) {
        switch command {
        case .run where scenario == nil:
            throw .usage("run: which scenario? one of \(ScenarioFiles.names.joined(separator: ", "))")
        case .watch:
            for name in values.list("transports") where CrowdTransport(rawValue: name) == nil {
                throw .usage(
                    "--transports: '\(name)' is not one of \(CrowdTransport.allCases.map(\.rawValue).joined(separator: ", "))"
                )
            }
            guard !values.list("auctions").isEmpty else { throw .usage("--auctions: is empty") }
            guard values.number("slow-per-mille") + values.number("stalled-per-mille") <= 1_000 else {
                throw .usage("--slow-per-mille and --stalled-per-mille: together over 1,000")
            }
        case .replay where values.text("csv").isEmpty: throw .usage("--csv: is missing")
        case .audit where values.text("accounts").isEmpty: throw .usage("--accounts: is missing")
        case .audit where values.text("truth").isEmpty == values.text("database-url").isEmpty:
            throw .usage("give either --truth or --database-url")
        case .floor where !values.text("listen").isEmpty && SocketAddress(text: values.text("listen")) == nil:
            throw .usage("--listen: '\(values.text("listen"))' is not HOST:PORT")
        case .publish, .floor:
            do { _ = try RedisURL(text: values.text("redis-url")) } catch {
                throw .configuration("redis-url: \(error)")
            }
        case .simulate:
            if let fault = Simulate.plan(values).fault { throw .usage(fault) }
        case .demo, .bid, .replay, .audit, .run: break
        }
    }

    static func perform(_ command: Command, _ values: SettingsValues, scenario: String?) throws {
        switch command {
        case .demo: try Demo(values).run()
        case .watch: try watch(values)
        case .publish: try publish(values)
        case .bid: try BidLoad(values).run()
        case .replay: try Replay(values).run()
        case .audit: try audit(values)
        case .floor: try floor(values)
        case .run: try run(scenario ?? "", values)
        case .simulate: Simulate.run(Simulate.plan(values))
        }
    }

    private static func watch(_ values: SettingsValues) throws {
        var plan = CrowdPlan(
            port: values.number("port"), auctions: values.list("auctions"),
            watchers: values.number("watchers"))
        plan.transports = values.list("transports").compactMap { CrowdTransport(rawValue: $0) }
        plan.slowPerMille = values.number("slow-per-mille")
        plan.stalledPerMille = values.number("stalled-per-mille")
        plan.connectRate = values.number("connect-rate")
        let crowd = Crowd(plan)
        crowd.connect(plan.watchers)
        for second in 1...values.number("seconds") {
            Processor.pause(microseconds: 1_000_000)
            let report = crowd.collect()
            let endings = report.endings.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }
            print(
                "\(second) s  connected \(crowd.progress.connected.load(ordering: .relaxed))  deliveries \(report.deliveries)  "
                    + "merged \(report.merged)  p50 \(report.latency.valueAtPercentile(50)) µs  "
                    + "p99 \(report.latency.valueAtPercentile(99)) µs"
                    + (endings.isEmpty ? "" : "  ended \(endings.joined(separator: ", "))"))
        }
        let accounts = crowd.accounts()
        crowd.stop()
        if !values.text("accounts").isEmpty {
            try write(AccountsFile(auctions: plan.auctions, shards: accounts), to: values.text("accounts"))
        }
        let faults = accounts.reduce(into: [Fault: Int]()) { $0.merge($1.faults, uniquingKeysWith: +) }
        for (fault, count) in faults { print("\(count) × \(fault.rawValue)") }
        if !faults.isEmpty { exit(1) }
    }

    private static func publish(_ values: SettingsValues) throws {
        let source = EventSource(
            redis: try RedisURL(text: values.text("redis-url")), auctions: values.list("auctions"),
            fillerBytes: values.number("filler-bytes"), losslessEvery: values.number("lossless-every"))
        let report = source.publish(
            PublishingPlan(
                rate: Double(values.number("rate")), events: values.number("events"),
                burst: values.number("burst")))
        print(
            "published \(report.events) events in \(String(format: "%.2f", report.seconds)) s; late by "
                + "\(report.lateness.valueAtPercentile(50)) µs (p50), \(report.lateness.valueAtPercentile(99)) µs (p99)"
        )
        guard !values.text("truth").isEmpty else { return }
        try write(TruthFile(auctions: source.auctions, truth: source.truth()), to: values.text("truth"))
    }

    private static func audit(_ values: SettingsValues) throws {
        let accounts = try read(AccountsFile.self, from: values.text("accounts"))
        let truth =
            values.text("truth").isEmpty
            ? try PublishedEvents.truth(database: values.text("database-url"), auctions: accounts.auctions)
            : try ordered(try read(TruthFile.self, from: values.text("truth")), as: accounts.auctions)
        var report = AuditReport()
        Audit.reconcile(
            accounts.shards, with: truth, auctions: accounts.auctions, group: "watch", into: &report)
        print(report.text)
        if !report.isClean { exit(1) }
    }

    private static func ordered(_ file: TruthFile, as auctions: [String]) throws -> [AuctionTruth] {
        try auctions.map { auction in
            guard let index = file.auctions.firstIndex(of: auction) else {
                throw ScenarioError(description: "the truth file has no auction '\(auction)'")
            }
            return file.truth[index]
        }
    }

    private static func floor(_ values: SettingsValues) throws {
        guard values.text("listen").isEmpty else {
            let address = SocketAddress(text: values.text("listen"))
            let gateway = try BareGateway(
                port: Int(address?.port ?? 0), redis: try RedisURL(text: values.text("redis-url")),
                pattern: values.text("pattern"))
            gateway.run()
        }
        let kernel = try KernelFloor(sockets: values.number("sockets"), bytes: values.number("bytes"))
        for result in kernel.measure(rounds: values.number("rounds")) {
            print("\(result.method): \(String(format: "%.2f", result.cpuMicroseconds)) µs of CPU a send")
        }
        kernel.close()
    }

    private static func run(_ name: String, _ values: SettingsValues) throws {
        let isQuiet = values.flag("quiet")
        let scenario = try ScenarioFiles.scenario(name)
        let runner = try ScenarioRunner(scenario) { line in if !isQuiet { print(line) } }
        let report = try runner.run()
        try report.write(to: values.text("reports"))
        print("\n\(scenario.name): \(scenario.summary)\n\n\(report.table)\n\n\(report.audit.text)")
        for remark in report.remarks { print(remark) }
        print("report: \(values.text("reports"))/\(scenario.name).html")
        if !report.audit.isClean { exit(1) }
    }

    // MARK: Files

    private static func write(_ value: some Encodable, to path: String) throws {
        try JSONEncoder().encode(value).write(to: URL(fileURLWithPath: path))
    }

    private static func read<Value: Decodable>(_ type: Value.Type, from path: String) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw ScenarioError(
                description: "'\(path)' was not written by this program: \(error.localizedDescription)")
        }
    }
}
