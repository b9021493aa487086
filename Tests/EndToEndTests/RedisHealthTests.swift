import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// A Redis that looks alive and is of no use: demoted, full, of a cluster, behind access rules, the wrong
    /// one.
    @Suite(.serialized) struct RedisHealth {
        private func event(_ auction: String, _ sequence: Int) -> String {
            #"{"type":"BID_UPDATE","auction_id":"\#(auction)","seq":\#(sequence)}"#
        }

        private func lines(_ gateway: GatewayProcess, _ text: String) -> [Substring] {
            gateway.process.log.split(separator: "\n").filter { $0.contains(text) }
        }

        /// How many connections this Redis has been asked for.
        private func attempts(_ client: RedisClient) throws -> Int {
            let info = try client.call("INFO", "stats").bytes ?? []
            let line = String(decoding: info, as: UTF8.self).split(separator: "\r\n").first {
                $0.hasPrefix("total_connections_received:")
            }
            return Int(line?.split(separator: ":")[1] ?? "") ?? 0
        }

        @Test(
            "a Redis that takes no writes does not deliver: said once, and its end once; watchers get what they missed",
            arguments: [
                (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], "READONLY"),
                (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], "OOM"),
            ])
        func takesNoWrites(sicken: [String], heal: [String], cause: String) throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            let client = try redis.client()
            _ = try client.call(sicken.map { Array($0.utf8) })
            try eventually("the gateway says so") { try !gateway.isOK("/readyz") }
            let before = try attempts(client)
            try eventually("it tries again") { try self.attempts(client) >= before + 6 }
            #expect(try !gateway.isOK("/readyz"))
            _ = try client.call(heal.map { Array($0.utf8) })
            for sequence in 1...3 {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event("a1", sequence))
            }
            _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":3,"status":"active"}"#)
            try eventually("the gateway is ready again") { try gateway.isOK("/readyz") }
            for sequence in 1...3 { #expect(try watcher.next().sequence == sequence) }
            let losses = lines(gateway, "Redis link is down")
            #expect(losses.count == 1 && losses[0].contains(cause), "\(losses)")
            try eventually("its return is logged") { lines(gateway, "Redis link is up").count == 2 }
        }

        @Test("FEED says when Redis stops delivering, and, after the missed events, that it delivers again")
        func feed() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let client = try redis.client()
            _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":1,"status":"active"}"#)
            let watchers = try WatchTransport.allCases.filter { $0.form != .longPoll }.map {
                try gateway.watch("a1", over: $0)
            }
            for watcher in watchers { #expect(try watcher.next().sequence == 1) }
            let writer = try BlockingSocket(port: redis.port)
            try writer.send(Array("PING\r\n".utf8))
            #expect(try writer.receive(milliseconds: 5_000) != nil)
            redis.signal(SIGSTOP)
            for watcher in watchers {
                let (isLive, behind) = try watcher.nextFeed()
                #expect(!isLive && behind == [], "\(watcher.transport)")
            }
            let joiner = try gateway.watch("a1")
            let (isLive, behind) = try joiner.nextFeed()
            #expect(!isLive && behind == [1], "after its first message")
            for path in ["/v1/auctions/a1/live?", "/v1/live?auctions=a1&"] {
                #expect(try gateway.get(path).text.contains(#""seq":1,"complete":true,"live":false,"#))
            }
            // Redis reads this as soon as it goes on, before the gateway's new link asks for the state.
            let commands = [
                ["XADD", RedisKeys.log("a1"), "2-0", "e", event("a1", 2)],
                ["SET", RedisKeys.state("a1"), #"{"seq":2,"status":"active"}"#],
            ]
            var bytes: [UInt8] = []
            for command in commands { RedisCodec.append(command.map { Array($0.utf8) }, to: &bytes) }
            try writer.send(bytes)
            redis.signal(SIGCONT)
            for watcher in watchers + [joiner] {
                let (isLive, behind) = try watcher.nextFeed()
                #expect(isLive && behind == [2], "\(watcher.transport)")
            }
            #expect(
                try gateway.get("/v1/auctions/a1/live").text.contains(
                    #""seq":2,"complete":true,"live":true,"#))
        }

        @Test(
            "where the relay's heartbeat was heard and stays away, the name is looked up and the other server found"
        )
        func nameMoved() throws {
            let redis = try RedisServer()
            let other = try ChildProcess(
                "redis",
                [
                    "redis-server", "--port", "\(redis.port)", "--bind", "127.0.0.2", "--save", "",
                    "--appendonly", "no",
                ])
            defer { other.kill(SIGKILL) }
            let urls = try ["127.0.0.1", "127.0.0.2"].map {
                try RedisURL(text: "redis://\($0):\(redis.port)")
            }
            try eventually("the other one answers") {
                (try? RedisClient(url: urls[1]).call("PING")) == .status("PONG")
            }
            let servers = try urls.map { try RedisClient(url: $0, timeoutMilliseconds: 60_000) }
            // The gateway sees names as this file has them.
            let hosts = Guardian.shared.folder + "/hosts-\(UUID().uuidString)"
            try "127.0.0.1 redis.test\n".write(toFile: hosts, atomically: false, encoding: .utf8)
            let gateway = try GatewayProcess(
                redis: ["redis://redis.test:\(redis.port)"],
                launcher: [
                    "unshare", getuid() == 0 ? "-m" : "-rm", "sh", "-c",
                    #"mount --bind "$0" /etc/hosts && exec "$@""#, hosts,
                ])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            func subscribers(_ index: Int) throws -> Int64 {
                try servers[index].call("PUBSUB", "NUMSUB", "auction:a1").array?[1].integer ?? 0
            }
            #expect(try subscribers(0) == 1)
            #expect(try servers[0].call("PUBLISH", RedisKeys.relay, "1") == .integer(1))
            // From now on bids arrive at the other one. The first goes on as if nothing had happened.
            try "127.0.0.2 redis.test\n".write(toFile: hosts, atomically: false, encoding: .utf8)
            try eventually("the gateway has followed", within: 40) { try subscribers(1) == 1 }
            _ = try servers[1].call("PUBLISH", RedisKeys.relay, "1")
            _ = try servers[1].call("PUBLISH", "auction:a1", event("a1", 1))
            #expect(try watcher.next().sequence == 1)
            let losses = lines(gateway, "Redis link is down")
            #expect(losses.count == 1 && losses[0].contains("heartbeat"), "\(losses)")
        }

        @Test(
            "each relay says every second that bids arrive at its server, also while PostgreSQL stands still")
        func heartbeat() throws {
            let postgres = try PostgresServer()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try postgres.database("heartbeat"), redis: [redis.url])
            let client = try RedisClient(url: RedisURL(text: redis.url), timeoutMilliseconds: 8_000)
            _ = try client.call("SUBSCRIBE", RedisKeys.relay)
            func beats(_ count: Int) throws {
                for _ in 0..<count {
                    #expect(try client.receive().array?.first == .bytes(Array("message".utf8)))
                }
            }
            try beats(2)
            postgres.signal(SIGSTOP)
            defer { postgres.signal(SIGCONT) }
            try beats(6)
            #expect(try api.isOK("/healthz"))
        }

        @Test("a channel that Redis denies is refused alone, logged once and counted; others notice nothing")
        func deniedChannel() throws {
            let redis = try RedisServer()
            let client = try redis.client()
            _ = try client.call(
                "ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "resetchannels", "&gavelcast:*",
                "&user:*", "&auction:a*")
            let gateway = try GatewayProcess(redis: ["redis://gateway:secret@127.0.0.1:\(redis.port)"])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            for _ in 0..<3 {
                let denied = try gateway.watch("b1")
                guard case .close(let code, let reason)? = try denied.socket.next() else {
                    throw TimedOut(description: "it is not closed")
                }
                #expect(code == 1_013 && reason.contains("retry_after_ms"))
            }
            let many = try WebSocketClient(port: gateway.port, path: "/v1/live")
            for auction in ["b2", "a2"] {
                try many.send(text: #"{"type":"SUBSCRIBE","auction_id":"\#(auction)"}"#)
            }
            var answers: [String] = []
            while answers.count < 2, case .text(let text)? = try many.next() { answers.append(text) }
            #expect(answers.contains { $0.contains("SNAPSHOT") && $0.contains("a2") }, "\(answers)")
            #expect(answers.contains { $0.contains("UNAVAILABLE") && $0.contains("b2") }, "\(answers)")
            #expect(try gateway.isOK("/readyz"))
            #expect(try gateway.metric("gavelcast_redis_refusals_total") == 4)
            #expect(lines(gateway, "Redis refuses a channel").filter { $0.contains("auction:b1") }.count == 1)
            #expect(lines(gateway, "Redis link is down").isEmpty)
            try redis.publish("a1", event("a1", 1))
            #expect(try watcher.next().sequence == 1)
            // After a loss all channels are subscribed in one command, the denied ones among them.
            _ = try client.call("CLIENT", "KILL", "USER", "gateway")
            try eventually("it is subscribed again") {
                try client.call("PUBSUB", "NUMSUB", "auction:a1").array?[1] == .integer(1)
            }
            try redis.publish("a1", event("a1", 2))
            #expect(try watcher.next().sequence == 2)
        }

        @Test("an access rule added later closes the watchers of its auction and no others")
        func deniedLater() throws {
            let redis = try RedisServer()
            let client = try redis.client()
            _ = try client.call("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "allchannels")
            let gateway = try GatewayProcess(redis: ["redis://gateway:secret@127.0.0.1:\(redis.port)"])
            let good = try (0..<5).map { try gateway.watch("a\($0)") }
            let bad = try (0..<5).map { _ in try gateway.watch("b1") }
            for watcher in good + bad { _ = try watcher.next() }
            _ = try client.call(
                "ACL", "SETUSER", "gateway", "resetchannels", "&gavelcast:*", "&auction:a*")
            _ = try client.call("CLIENT", "KILL", "USER", "gateway")
            for watcher in bad {
                guard case .close(1_013, _)? = try watcher.socket.next() else {
                    throw TimedOut(description: "it is not closed")
                }
            }
            for (index, watcher) in good.enumerated() {
                try eventually("a\(index) is subscribed") {
                    try client.call("PUBSUB", "NUMSUB", "auction:a\(index)").array?[1] == .integer(1)
                }
                try redis.publish("a\(index)", event("a\(index)", 1))
                #expect(try watcher.next().sequence == 1)
            }
        }

        @Test("keys that Redis denies are refused alone, and are no empty state or log")
        func deniedKeys() throws {
            let redis = try RedisServer()
            let client = try redis.client()
            _ = try client.call(
                "ACL", "SETUSER", "gateway", "on", ">secret", "+@all", "allchannels", "~gavelcast:*",
                "~{auction:a1}:*", "~{auction:half}:state", "~{auction:half}:viewers")
            for auction in ["a1", "half", "none"] {
                _ = try client.call("SET", RedisKeys.state(auction), #"{"seq":9,"status":"active"}"#)
            }
            let gateway = try GatewayProcess(redis: ["redis://gateway:secret@127.0.0.1:\(redis.port)"])
            // Read in one batch, mostly.
            let good = try gateway.watch("a1")
            let none = try gateway.watch("none")
            #expect(try good.next().sequence == 9)
            guard case .close(1_013, _)? = try none.socket.next() else {
                throw TimedOut(description: "it is not closed")
            }
            #expect(try gateway.watch("half").next().sequence == 9)
            let resuming = try gateway.watch("half", since: 2)
            guard case .close(1_013, _)? = try resuming.socket.next() else {
                throw TimedOut(description: "a refused log passed for an empty one")
            }
            #expect(try gateway.isOK("/readyz"))
        }

        @Test(
            "a Redis that cannot serve is not ready, and one line says why",
            arguments: ["-mget", "-xrange", "-xrevrange", "-set", "-publish", "-subscribe"])
        func deniedCommand(rule: String) throws {
            let redis = try RedisServer()
            let client = try redis.client()
            _ = try client.call(
                "ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "allchannels", rule)
            let gateway = try GatewayProcess(
                redis: ["redis://gateway:secret@127.0.0.1:\(redis.port)"], waitsUntilReady: false)
            let before = try attempts(client)
            try eventually("it tries") { try self.attempts(client) >= before + 6 }
            #expect(try !gateway.isOK("/readyz"))
            let losses = lines(gateway, "Redis link is down")
            #expect(losses.count == 1 && losses[0].contains("NOPERM"), "\(losses)")
            #expect(lines(gateway, "Redis link is up").isEmpty)
            _ = try client.call("ACL", "SETUSER", "gateway", "+@all")
            try eventually("it is ready") { try gateway.isOK("/readyz") }
            #expect(lines(gateway, "Redis link is up").count == 1)
        }

        @Test("a node of a cluster is recognised, and not taken for a Redis that has nothing")
        func clusterNode() throws {
            let redis = try RedisServer(arguments: [
                "--cluster-enabled", "yes", "--cluster-config-file", UUID().uuidString,
            ])
            let client = try redis.client()
            _ = try client.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            let gateway = try GatewayProcess(redis: [redis.url], waitsUntilReady: false)
            let before = try attempts(client)
            try eventually("it tries") { try self.attempts(client) >= before + 6 }
            #expect(try !gateway.isOK("/readyz"))
            let losses = lines(gateway, "Redis link is down")
            #expect(losses.count == 1 && losses[0].contains("Cluster"), "\(losses)")
        }

        @Test("a wrong password is logged once, and the link is logged as up after a probe")
        func wrongPassword() throws {
            let redis = try RedisServer()
            let client = try redis.client()
            _ = try client.call("ACL", "SETUSER", "gateway", "on", ">other", "~*", "+@all", "allchannels")
            let gateway = try GatewayProcess(
                redis: ["redis://gateway:p%3Fss%2Fw%40rd@127.0.0.1:\(redis.port)"], waitsUntilReady: false)
            let before = try attempts(client)
            try eventually("it tries") { try self.attempts(client) >= before + 8 }
            #expect(lines(gateway, "Redis link is down").count == 1)
            #expect(lines(gateway, "Redis link is up").isEmpty && !gateway.process.log.contains("ss/w"))
            _ = try client.call("ACL", "SETUSER", "gateway", ">p?ss/w@rd")
            try eventually("it is ready") { try gateway.isOK("/readyz") }
            #expect(lines(gateway, "Redis link is up").count == 1)
        }

        @Test("a proxy without a server behind it is not up")
        func deadBehindProxy() throws {
            let port = try Ports.free()
            let script = """
                import socket
                server = socket.create_server(("127.0.0.1", \(port)))
                while True:
                    client, _ = server.accept()
                    print("accepted", flush=True)
                    client.close()
                """
            let proxy = try ChildProcess("proxy", ["python3", "-c", script])
            defer { proxy.kill(SIGKILL) }
            let gateway = try GatewayProcess(redis: ["redis://127.0.0.1:\(port)"], waitsUntilReady: false)
            try eventually("it tries") { proxy.log.split(separator: "\n").count >= 8 }
            #expect(lines(gateway, "Redis link is down").count == 1)
            #expect(lines(gateway, "Redis link is up").isEmpty)
        }
    }
}
