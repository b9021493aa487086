import AuctionEvents
import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import Testing

/// The alerts and the dashboard in `config`, with a real Prometheus. It mostly waits, so it runs beside the
/// others.
@Suite struct PrometheusTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    private static let lot = #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#

    /// Every bid belongs to this trace.
    private static let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    private static func config(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent("config/\(path)"), encoding: .utf8)
    }

    /// A Prometheus whose windows and waits are seconds instead of minutes.
    private final class Prometheus {
        let port: Int
        private let process: ChildProcess

        init(_ targets: [String: [Int]]) throws {
            port = try Ports.free()
            let folder = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8))"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let rules = try PrometheusTests.config("prometheus/gavelcast.rules.yml")
                .replacing(/\[\d+m\]/, with: "[10s]").replacing(/for: \w+/, with: "for: 0s")
            try rules.write(toFile: folder + "/rules.yml", atomically: true, encoding: .utf8)
            var config = "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
            config += "rule_files: [rules.yml]\nscrape_configs:\n"
            for (job, ports) in targets {
                let addresses = ports.map { #""127.0.0.1:\#($0)""# }.joined(separator: ", ")
                config += "  - {job_name: \(job), static_configs: [{targets: [\(addresses)]}]}\n"
            }
            try config.write(toFile: folder + "/config.yml", atomically: true, encoding: .utf8)
            process = try ChildProcess(
                "prometheus",
                [
                    "/usr/bin/prometheus", "--config.file", folder + "/config.yml", "--storage.tsdb.path",
                    folder + "/data", "--web.listen-address", "127.0.0.1:\(port)",
                    "--enable-feature=exemplar-storage",
                ])
            try eventually("Prometheus is ready") {
                (try? HTTPClient(port: self.port).request("GET", "/-/ready").status) == 200
            }
        }

        /// The values of an expression's series; empty when it has no data.
        func values(_ expression: String) throws -> [String] {
            let query = try #require(expression.addingPercentEncoding(withAllowedCharacters: .alphanumerics))
            let reply = try HTTPClient(port: port).request("GET", "/api/v1/query?query=\(query)")
            try #require(reply.status == 200, "\(expression): \(reply.text)")
            let data = try #require(reply.json["data"] as? [String: Any])
            let result = try #require(data["result"] as? [[String: Any]])
            return result.compactMap { ($0["value"] as? [Any])?.last as? String }
        }

        /// The traces of a histogram's examples.
        func traces(of name: String) throws -> Set<String> {
            let reply = try HTTPClient(port: port).request(
                "GET", "/api/v1/query_exemplars?query=\(name)_bucket&start=0&end=9999999999")
            let series = try #require(reply.json["data"] as? [[String: Any]], "\(reply.text)")
            let examples = series.flatMap { $0["exemplars"] as? [[String: Any]] ?? [] }
            return Set(examples.compactMap { ($0["labels"] as? [String: String])?["trace_id"] })
        }

        func isFiring(_ alert: String) throws -> Bool {
            try !values(#"ALERTS{alertname="\#(alert)", alertstate="firing"}"#).isEmpty
        }
    }

    @Test("promtool accepts the rules, and each alert fires in its case only")
    func rules() throws {
        let folder = Self.root.appendingPathComponent("config/prometheus").path
        for arguments in [
            ["test", "rules", "gavelcast.rules.test.yml"], ["check", "config", "prometheus.yml"],
        ] {
            let tool = try ChildProcess(
                "promtool",
                ["/bin/sh", "-c", "cd '\(folder)' && exec promtool \(arguments.joined(separator: " "))"])
            #expect(tool.waitForExit() == 0, "\(tool.log)")
        }
        let names = try Self.config("prometheus/gavelcast.rules.yml").matches(of: /alert: (\w+)/).map { $0.1 }
        let tests = try Self.config("prometheus/gavelcast.rules.test.yml")
        for name in names { #expect(tests.contains("alertname: \(name)\n"), "\(name) has no test") }
    }

    /// What `panels` of the dashboard ask.
    private static func panelQueries() throws -> [String] {
        let data = Data(try config("grafana/gavelcast.json").utf8)
        let dashboard = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let panels = try #require(dashboard["panels"] as? [[String: Any]])
        return panels.flatMap { $0["targets"] as? [[String: Any]] ?? [] }.compactMap { $0["expr"] as? String }
    }

    /// The left sides of the alerts' comparisons, which have data also while the comparison does not hold.
    private static func alertQueries() throws -> [String] {
        let blocks = try config("prometheus/gavelcast.rules.yml").components(separatedBy: "- alert: ")
            .dropFirst()
        return try blocks.map { block in
            let lines = block.components(separatedBy: "\n").drop { !$0.contains("expr:") }
            let own = lines.prefix { !$0.hasPrefix("        for:") && !$0.hasPrefix("        labels:") }
            var text = own.joined(separator: " ").replacing("        expr: ", with: "").replacing(
                ">-", with: "")
            let comparison = try #require(
                [" > ", " < ", " == "].lazy.compactMap { text.range(of: $0) }.first)
            text = String(text[..<comparison.lowerBound]).trimmingCharacters(in: .whitespaces)
            return text.replacing("[5m]", with: "[10s]").replacing("[10m]", with: "[10s]")
        }
    }

    /// The services under load, and what makes their faults.
    private struct House {
        let postgres: PostgresServer
        let redis: RedisServer
        let api: BidAPIProcess
        let gateway: GatewayProcess
        /// With few files and no memory.
        let small: GatewayProcess
        let database: String
        let auctionID: String
        let prometheus: Prometheus

        init() throws {
            postgres = try PostgresServer()
            redis = try RedisServer()
            database = try postgres.database("metrics")
            api = try BidAPIProcess(database: database, redis: [redis.url])
            gateway = try GatewayProcess(redis: [redis.url], arguments: ["--viewers-seconds", "1"])
            small = try GatewayProcess(
                redis: [redis.url], arguments: ["--max-memory-bytes", "1", "--head-seconds", "3600"],
                launcher: ["/bin/sh", "-c", "ulimit -n 2400; exec \"$@\"", "sh"])
            auctionID = try api.user("seller").createAuction(PrometheusTests.lot)
            prometheus = try Prometheus([
                "gavelcast-gateway": [gateway.adminPort, small.adminPort],
                "gavelcast-bidapi": [api.adminPort],
            ])
        }
    }

    @Test(
        "under load every panel and every alert has data; each alert fires when its fault is made, and not before"
    )
    func faults() throws {
        let house = try House()
        let isOver = Locked(false)
        let (port, auctionID) = (house.api.port, house.auctionID)
        let bidding = Thread {
            guard let bidders = try? ["ava", "ben"].map({ try BidClient(port: port, username: $0) }) else {
                return
            }
            for amount in 10... {
                if isOver.with({ $0 }) { return }
                _ = try? bidders[amount % 2].bid(
                    "\(amount)", on: auctionID, fields: ["traceparent": Self.trace])
                Clock.pause(milliseconds: 100)
            }
        }
        bidding.start()
        defer { isOver.with { $0 = true } }
        let watchers = try [WatchTransport.webSocket, .eventStream].map {
            try house.gateway.watch(auctionID, over: $0, since: 1)
        }
        defer { watchers.forEach { $0.close() } }
        // A gap that the log cannot fill.
        let gapped = try house.gateway.watch("gapped")
        _ = try gapped.next()
        for sequence in [1, 3] {
            try house.redis.publish(
                "gapped", #"{"type":"BID_UPDATE","auction_id":"gapped","seq":\#(sequence)}"#)
        }
        try checkQueries(house)
        try checkExemplars(house)
        #expect(try house.prometheus.values(#"ALERTS{alertname!="GavelcastMemoryFull"}"#) == [])
        try checkGatewayAlerts(house)
        try checkRedisAlerts(house)
        try checkDatabaseAlerts(house)
        house.gateway.process.kill(SIGKILL)
        try expectAlert("GavelcastDown", house)
    }

    private func expectAlert(_ name: String, _ house: House, while body: () throws -> Void = {}) throws {
        try eventually(name, within: 60) {
            try body()
            return try house.prometheus.isFiring(name)
        }
    }

    private func checkQueries(_ house: House) throws {
        var queries = try Self.panelQueries().map { $0.replacing("$__rate_interval", with: "5s") }
        #expect(queries.count > 30)
        queries += try Self.alertQueries()
        for query in queries {
            try eventually("data for \(query)", within: 40) {
                // Without a failed bid there is no series of failures.
                if query.contains("5..") { return true }
                return try !house.prometheus.values(query).isEmpty
            }
        }
    }

    private func checkExemplars(_ house: House) throws {
        for name in ["gavelcast_bid_seconds", "gavelcast_event_age_seconds"] {
            try eventually("a trace of \(name)", within: 40) {
                try house.prometheus.traces(of: name) == ["4bf92f3577b34da6a3ce929d0e0e4736"]
            }
        }
    }

    private func checkGatewayAlerts(_ house: House) throws {
        try expectAlert("GavelcastMemoryFull", house)
        let sockets = try (0..<2_170).map { _ in try BlockingSocket(port: house.small.port) }
        try expectAlert("GavelcastDescriptorsShort", house)
        for socket in sockets { socket.close() }
        let late = try house.gateway.watch("late")
        _ = try late.next()
        var sequence = 0
        try expectAlert("GavelcastFanoutSlow", house) {
            sequence += 1
            let time = Timestamp(milliseconds: Clock.wallMilliseconds() - 5_000)
            try house.redis.publish(
                "late",
                #"{"type":"BID_UPDATE","auction_id":"late","seq":\#(sequence),"server_time":"\#(time)"}"#)
        }
    }

    private func checkRedisAlerts(_ house: House) throws {
        house.redis.kill()
        try expectAlert("GavelcastRedisDoesNotDeliver", house)
        try expectAlert("GavelcastOutboxWaits", house)
        try house.redis.start()
        try eventually("the alerts end", within: 60) {
            try !house.prometheus.isFiring("GavelcastOutboxWaits")
                && !house.prometheus.isFiring("GavelcastRedisDoesNotDeliver")
        }
    }

    private func checkDatabaseAlerts(_ house: House) throws {
        let ending = try house.api.user("another").createAuction(Self.lot)
        let connection = try PostgresConnection(url: house.database)
        try connection.script(
            "UPDATE auctions SET ends_at = now() + interval '1 s' WHERE auction_id = '\(ending)'")
        house.postgres.signal(SIGSTOP)
        Clock.pause(milliseconds: 8_000)
        house.postgres.signal(SIGCONT)
        try expectAlert("GavelcastAuctionsEndLate", house)
        try expectAlert("GavelcastBidsSlow", house)
        house.postgres.kill()
        try expectAlert("GavelcastBidsFail", house)
        try house.postgres.start()
    }
}
