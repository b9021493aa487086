// Our two services, started by a test on private ports.

import Foundation
import LoadClient
import LocalServers
import Testing
import TransportSecurity

/// What the gateways of the tests show on their secure ports.
enum TestCertificate {
    private static let made = Locked<(LocalCertificate, TLSClientContext)?>(nil)

    static func shared() throws -> (certificate: LocalCertificate, client: TLSClientContext) {
        try made.with { made in
            if let made { return made }
            let certificate = try LocalCertificate()
            let both = (certificate, try certificate.client())
            made = both
            return both
        }
    }
}

enum Metrics {
    /// The metric's number, summed over its labels; `nil` when there is none.
    static func sum(of name: String, in text: String) -> Int? {
        let numbers = text.split(separator: "\n")
            .filter { $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{") }
            .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }
        return numbers.isEmpty ? nil : Int(numbers.reduce(0, +))
    }
}

/// Services built with a sanitizer are many times slower.
enum Sanitizer {
    static let isOn = ProcessInfo.processInfo.environment["GAVELCAST_SANITIZER"] != nil
}

final class GatewayProcess {
    let port: Int
    let securePort: Int
    let ports: GatewayPorts
    let adminPort: Int
    let process: ChildProcess
    private let redis: [String]
    private let arguments: [String]

    /// - Parameters:
    ///   - waitsUntilReady: false when Redis is down on purpose.
    ///   - launcher: a command that runs the gateway with the arguments that follow.
    ///   - predecessor: the gateway whose ports this one gets.
    ///   - other: a gateway with `reuse-port`, whose public port this one listens on too.
    init(
        redis: [String], arguments: [String] = [], waitsUntilReady: Bool = true, launcher: [String] = [],
        predecessor: GatewayProcess? = nil, sharingPortOf other: GatewayProcess? = nil
    ) throws {
        self.redis = redis
        self.arguments = arguments
        port = try predecessor?.port ?? other?.port ?? Ports.free()
        securePort = try predecessor?.securePort ?? Ports.free()
        adminPort = try predecessor?.adminPort ?? Ports.free()
        let (certificate, client) = try TestCertificate.shared()
        ports = GatewayPorts(plain: port, secure: securePort, tls: client)
        process = try ChildProcess(
            "gateway",
            launcher + [
                Programs.path("gavelcast-gateway"), "--admin-listen", "127.0.0.1:\(adminPort)",
                "--tls-listen",
                "127.0.0.1:\(securePort)",
            ]
                + (arguments.contains("--listen") ? [] : ["--listen", "127.0.0.1:\(port)"])
                + (arguments.contains("--drain-seconds") ? [] : ["--drain-seconds", "1"])
                + (arguments.contains("--tls-cert")
                    ? [] : ["--tls-cert", certificate.certificate, "--tls-key", certificate.key])
                // Numbers of viewers would come between the messages that a test counts.
                + (arguments.contains("--viewers-seconds") ? [] : ["--viewers-seconds", "0"])
                + redis.flatMap { ["--redis-url", $0] } + arguments)
        // The predecessor may answer in its place.
        guard predecessor == nil else { return }
        let path = waitsUntilReady ? "/readyz" : "/healthz"
        try eventually("the gateway answers \(path)") { try self.isOK(path) }
    }

    /// Starts a gateway that takes over from this one, and waits until this one has ended.
    func handOver() throws -> GatewayProcess {
        let new = try GatewayProcess(redis: redis, arguments: arguments, predecessor: self)
        try eventually("the old gateway ends") {
            guard new.process.isRunning else {
                throw TimedOut(description: "the new gateway ended: \(new.process.log)")
            }
            return !self.process.isRunning
        }
        try eventually("the new gateway is ready") { try new.isOK("/readyz") }
        return new
    }

    func isOK(_ path: String) throws -> Bool {
        guard process.isRunning else { throw TimedOut(description: "the gateway ended: \(process.log)") }
        return (try? HTTPClient(port: adminPort).request("GET", path).status) == 200
    }

    func metric(_ name: String) throws -> Int {
        let text = try HTTPClient(port: adminPort).request("GET", "/metrics").text
        return try #require(Metrics.sum(of: name, in: text), "no metric \(name)")
    }

    func get(_ path: String, fields: [String: String] = [:]) throws -> HTTPReply {
        try HTTPClient(port: port).request("GET", path, fields: fields)
    }

    func watch(
        _ auctionID: String, over transport: WatchTransport = .webSocket, since: Int? = nil,
        receiveBufferBytes: Int? = nil
    ) throws -> Watcher {
        try Watcher(
            ports, auctionID: auctionID, over: transport, since: since,
            receiveBufferBytes: receiveBufferBytes)
    }
}

final class BidAPIProcess {
    /// Empty when a configuration file names it.
    let databaseURL: String
    let port: Int
    let adminPort: Int
    let process: ChildProcess

    init(
        database: String?, redis: [String], arguments: [String] = [], waitsUntilReady: Bool = true,
        port: Int? = nil, setsLimits: Bool = true
    ) throws {
        databaseURL = database ?? ""
        self.port = try port ?? Ports.free()
        adminPort = try Ports.free()
        let limits =
            arguments.contains("--bids-per-minute") || !setsLimits
            ? [] : ["--bids-per-minute", "0", "--auctions-per-hour", "0"]
        process = try ChildProcess(
            "bidapi",
            [
                Programs.path("gavelcast-bidapi"), "--listen", "127.0.0.1:\(self.port)", "--admin-listen",
                "127.0.0.1:\(adminPort)",
            ] + (database.map { ["--database-url", $0] } ?? []) + limits
                + redis.flatMap { ["--redis-url", $0] } + arguments)
        let path = waitsUntilReady ? "/readyz" : "/healthz"
        try eventually("the bid API answers \(path)") { try self.isOK(path) }
        // The two listeners open one after the other.
        try eventually("the bid API listens") {
            (try? HTTPClient(port: self.port).request("GET", "/nothing").status) == 404
        }
    }

    /// Two that accept each other's tokens.
    static func pair(database: String, redis: String, arguments: [String] = []) throws -> [BidAPIProcess] {
        let keys = try sharedTokenKeys()
        return try (0..<2).map { _ in
            try BidAPIProcess(
                database: database, redis: [redis], arguments: ["--token-keys", keys] + arguments)
        }
    }

    /// A file of one secret key.
    static func sharedTokenKeys() throws -> String {
        let file = Guardian.shared.folder + "/\(UUID().uuidString).json"
        let secret = String(repeating: "A", count: 43)
        try #"{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"\#(secret)"}]}"#
            .write(toFile: file, atomically: true, encoding: .utf8)
        return file
    }

    func isOK(_ path: String) throws -> Bool {
        guard process.isRunning else { throw TimedOut(description: "the bid API ended: \(process.log)") }
        return (try? HTTPClient(port: adminPort).request("GET", path).status) == 200
    }

    func metric(_ name: String) throws -> Int {
        let text = try HTTPClient(port: adminPort).request("GET", "/metrics").text
        return try #require(Metrics.sum(of: name, in: text), "no metric \(name)")
    }

    func user(_ name: String) throws -> BidClient { try BidClient(port: port, username: name) }
}
