import Foundation
import LoadClient
import LocalServers
import RedisLink
import TestSupport
import Testing

extension EndToEndTests {
    /// Unix sockets, for a Redis and a proxy on the same machine, and the least that Redis must allow.
    @Suite(.serialized) struct LocalSockets {
        private let folder = Guardian.shared.folder + "/sockets-\(UUID().uuidString.prefix(8))"

        init() throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }

        private func get(_ socket: String, _ path: String, fields: [String] = []) throws -> String {
            let process = try ChildProcess(
                "curl",
                ["curl", "-sS", "-i", "--unix-socket", socket, "http://local\(path)"]
                    + fields.flatMap { ["-H", $0] })
            _ = process.waitForExit()
            return process.log
        }

        /// A gateway that listens on Unix sockets only.
        private func gateway(_ redis: String, _ arguments: [String] = []) throws -> ChildProcess {
            let process = try ChildProcess(
                "gateway",
                [
                    Programs.path("gavelcast-gateway"), "--listen", "unix:\(folder)/live.sock",
                    "--admin-listen", "unix:\(folder)/admin.sock", "--redis-url", redis, "--workers", "2",
                ] + arguments)
            try eventually("the gateway is ready") {
                try self.get("\(self.folder)/admin.sock", "/readyz").hasPrefix("HTTP/1.1 200")
            }
            return process
        }

        @Test("Redis and both services speak through Unix sockets, and leave none behind")
        func unixSockets() throws {
            let redis = try RedisServer(arguments: ["--unixsocket", "\(folder)/redis.sock"])
            let url = "unix://\(folder)/redis.sock"
            let gateway = try gateway(url)
            let api = try ChildProcess(
                "bidapi",
                [
                    Programs.path("gavelcast-bidapi"), "--listen", "unix:\(folder)/api.sock",
                    "--admin-listen", "unix:\(folder)/api-admin.sock", "--redis-url", url,
                    "--database-url", try SharedPostgres.database(),
                ])
            try eventually("the bid API is ready") {
                try self.get("\(self.folder)/api-admin.sock", "/readyz").hasPrefix("HTTP/1.1 200")
            }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            let poll = try get("\(folder)/live.sock", "/v1/auctions/a1/live?timeout=1")
            #expect(poll.contains(#""type":"SNAPSHOT""#), "\(poll)")
            let list = try get("\(folder)/api.sock", "/api/v1/auctions")
            #expect(list.hasPrefix("HTTP/1.1 200") && list.contains(#""auctions":[]"#), "\(list)")
            for process in [gateway, api] { process.kill(SIGTERM) }
            #expect(gateway.waitForExit() == 0 && api.waitForExit() == 0)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["redis.sock"])
        }

        @Test("an abandoned socket is replaced, one in use is not, and neither is a file")
        func abandoned() throws {
            let redis = try RedisServer()
            let first = try gateway(redis.url)
            let rival = try ChildProcess(
                "gateway",
                [
                    Programs.path("gavelcast-gateway"), "--listen", "unix:\(folder)/live.sock",
                    "--admin-listen", "127.0.0.1:\(Ports.free())", "--redis-url", redis.url,
                ])
            #expect(rival.waitForExit() == 71 && rival.log.contains("live.sock"), "\(rival.log)")
            #expect(try get("\(folder)/admin.sock", "/healthz").hasPrefix("HTTP/1.1 200"))
            first.kill(SIGKILL)
            first.waitForExit()
            let second = try gateway(redis.url)
            second.kill(SIGTERM)
            #expect(second.waitForExit() == 0)
            try "a file".write(toFile: "\(folder)/live.sock", atomically: true, encoding: .utf8)
            let blocked = try ChildProcess(
                "gateway",
                [
                    Programs.path("gavelcast-gateway"), "--listen", "unix:\(folder)/live.sock",
                    "--admin-listen", "127.0.0.1:\(Ports.free())", "--redis-url", redis.url,
                ])
            #expect(blocked.waitForExit() == 71)
            #expect(try String(contentsOfFile: "\(folder)/live.sock", encoding: .utf8) == "a file")
        }

        @Test("a proxy at a Unix socket is believed about its clients, and each has a limit of its own")
        func forwardedClients() throws {
            let redis = try RedisServer()
            _ = try redis.client().call("SET", RedisKeys.state("a1"), #"{"seq":1,"status":"active"}"#)
            let gateway = try gateway(redis.url, ["--max-connections-per-ip", "1"])
            func watch(_ address: String) throws -> ChildProcess {
                try ChildProcess(
                    "curl",
                    [
                        "curl", "-sSN", "--unix-socket", "\(folder)/live.sock", "-H",
                        "Accept: text/event-stream", "-H", "X-Forwarded-For: 6.6.6.6, \(address)",
                        "http://local/v1/auctions/a1/live",
                    ])
            }
            let first = try watch("203.0.113.1")
            try eventually("the first watches") { first.log.contains("SNAPSHOT") }
            let other = try watch("203.0.113.2")
            try eventually("another client watches") { other.log.contains("SNAPSHOT") }
            let same = try watch("203.0.113.1")
            same.waitForExit()
            #expect(!same.log.contains("SNAPSHOT") && same.log.contains("CLOSE"), "\(same.log)")
            #expect(gateway.isRunning)
        }

        // MARK: Access rules

        /// The users that config/redis/users.conf has for both services, and the default user.
        private static func users() throws -> [String] {
            let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent()
            let text = try String(
                contentsOf: root.appendingPathComponent("config/redis/users.conf"), encoding: .utf8)
            return text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("user ") }
        }

        @Test(
            "the smallest access rules are enough, on one server and in a cluster", arguments: [false, true])
        func leastPrivilege(isCluster: Bool) throws {
            let users = try Self.users()
            #expect(users.count == 3 && users.last == "user default off")
            let file = "\(folder)/users.conf"
            // Our own clients go on as the default user.
            try (users.dropLast() + ["user default on nopass ~* &* +@all", ""])
                .joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
            let rules = ["--include", file]
            let one = isCluster ? nil : try RedisServer(arguments: rules)
            let cluster = isCluster ? try RedisCluster(hasReplicas: false, arguments: rules) : nil
            let place = try #require(one?.url ?? cluster?.url)
            func url(_ user: String) -> String {
                place.replacing("://", with: "://\(user):change-me@")
            }
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [url("gavelcast-bidapi")],
                arguments: ["--bids-per-minute", "1000"])
            let keys = try BidAPIProcess.sharedTokenKeys()
            let gateway = try GatewayProcess(
                redis: [url("gavelcast-gateway")],
                arguments: ["--viewers-seconds", "1", "--token-keys", keys])
            let auction = try api.user("seller").createAuction(
                #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            let bidders = try [api.user("ava"), api.user("ben")]
            let watcher = try gateway.watch(auction)
            #expect(try watcher.next().type == "SNAPSHOT")
            for amount in 10...20 {
                #expect(try bidders[amount % 2].bid("\(amount)", on: auction).status == 201)
            }
            try watcher.until { $0.sequence == 11 }
            try watcher.until { $0.type == "VIEWERS" }
            #expect(try gateway.watch(auction, since: 2).next().type == "RESUMED")
            try eventually("the viewers are counted") {
                try bidders[0].request("GET", "/api/v1/auctions/\(auction)").json["viewer_count"] as? Int ?? 0
                    > 0
            }
            #expect(try api.metric("gavelcast_limits_uncounted_total") == 0)
            #expect(try api.metric("gavelcast_relay_redis_failures_total") == 0)
            let logs = gateway.process.log + api.process.log
            #expect(!logs.contains("NOPERM"), "\(logs)")
        }
    }
}
