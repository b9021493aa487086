// The servers of a run: a private Redis, the gateways, and the bare yardstick. Each is a process of its own.

import Foundation
import LoadClient
import LoadEngine
import LocalServers
import RedisLink

final class GatewayChild {
    let adminPort: Int
    /// Where its successor takes over.
    let takeoverSocket: String
    let process: ChildProcess

    /// - Parameters:
    ///   - secure: the arguments for TLS, if there is any.
    ///   - predecessor: hands everything over to this one.
    init(
        port: Int, redis: String, servers: Scenario.Servers, secure: [String],
        predecessor: GatewayChild? = nil
    ) throws {
        adminPort = try predecessor?.adminPort ?? Ports.free()
        takeoverSocket =
            predecessor?.takeoverSocket ?? Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).sock"
        process = try ChildProcess(
            "gateway",
            RunServers.pinned(servers.core) + [
                Programs.path("gavelcast-gateway"), "--listen", "127.0.0.1:\(port)", "--admin-listen",
                "127.0.0.1:\(adminPort)", "--redis-url", redis, "--reuse-port", "--takeover-socket",
                takeoverSocket,
            ] + secure + servers.settings.flatMap { ["--\($0.name)", $0.value] })
    }

    func waitUntilReady() throws {
        try eventually("the gateway is ready") {
            guard process.isRunning else {
                throw ServerFailure(description: "the gateway ended: \(process.log)")
            }
            return (try? HTTPClient(port: adminPort).request("GET", "/readyz").status) == 200
        }
    }

    func post(_ path: String) throws {
        _ = try HTTPClient(port: adminPort).request("POST", path)
    }

    func metric(_ name: String) -> Int {
        let text = (try? HTTPClient(port: adminPort).request("GET", "/metrics").text) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name + " ") }
        return line.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
    }
}

final class RunServers {
    private let plan: Scenario.Servers
    let redis: RedisServer
    let port: Int
    let securePort: Int
    let floorPort: Int
    /// What the gateways show, where a group comes over TLS.
    let certificate: LocalCertificate?
    private(set) var gateways: [GatewayChild] = []
    private(set) var floor: ChildProcess?

    /// - Parameter needsTLS: whether watchers come over TLS.
    init(_ plan: Scenario.Servers, needsTLS: Bool) throws {
        self.plan = plan
        certificate = needsTLS ? try LocalCertificate() : nil
        securePort = try Ports.free()
        redis = try RedisServer()
        port = try Ports.free()
        floorPort = try Ports.free()
        for _ in 0..<plan.gateways {
            gateways.append(try child())
        }
        for gateway in gateways { try gateway.waitUntilReady() }
        if plan.hasFloor {
            floor = try ChildProcess(
                "floor",
                Self.pinned(plan.core) + [
                    Programs.path("gavelcast-loadtest"), "floor", "--listen", "127.0.0.1:\(floorPort)",
                    "--redis-url",
                    redis.url, "--pattern", "auction:floor-*",
                ])
            try eventually("the floor listens") { (try? BlockingSocket(port: floorPort)) != nil }
        }
    }

    private func child(after predecessor: GatewayChild? = nil) throws -> GatewayChild {
        var secure: [String] = []
        if let certificate {
            secure = [
                "--tls-listen", "127.0.0.1:\(securePort)", "--tls-cert", certificate.certificate, "--tls-key",
                certificate.key,
            ]
        }
        return try GatewayChild(
            port: port, redis: redis.url, servers: plan, secure: secure, predecessor: predecessor)
    }

    /// A program's arguments that keep it on a processor.
    static func pinned(_ core: Int?) -> [String] {
        core.map { ["taskset", "-c", "\($0)"] } ?? []
    }

    func reading(floor isFloor: Bool) -> ProcessMeter.Reading {
        let pids = isFloor ? [floor?.pid].compactMap { $0 } : gateways.map(\.process.pid)
        return pids.map { ProcessMeter(pid: $0).read() }.reduce(ProcessMeter.Reading(), +)
    }

    func metric(_ name: String) -> Int {
        gateways.reduce(0) { $0 + $1.metric(name) }
    }

    /// Starts the successor of one gateway, and has the old one drain. Returns the old one.
    func replace(_ index: Int) throws -> GatewayChild {
        let new = try child()
        try new.waitUntilReady()
        let old = gateways[index]
        gateways[index] = new
        old.process.kill(SIGTERM)
        return old
    }

    /// Starts a new process that takes over from a gateway. Returns the old one, which ends by itself.
    func handOver(_ index: Int) throws -> GatewayChild {
        let old = gateways[index]
        gateways[index] = try child(after: old)
        return old
    }

    func stop() {
        for gateway in gateways { gateway.process.kill(SIGKILL) }
        floor?.kill(SIGKILL)
        for gateway in gateways { gateway.process.waitForExit() }
        floor?.waitForExit()
        redis.kill()
    }
}
