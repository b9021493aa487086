import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// A watcher that comes back with its cursor.
    @Suite(.serialized) struct Resume {
        let redis: RedisServer
        let gateway: GatewayProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url], arguments: ["--history-events", "16"])
        }

        private static func event(_ sequence: Int) -> String {
            #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence)}"#
        }

        /// Publishes as the bid API does: log, state and PUBLISH.
        private static func publish(_ range: ClosedRange<Int>, to url: String) throws {
            let client = try RedisClient(url: RedisURL(text: url))
            for sequence in range {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event(sequence))
                _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":\#(sequence),"status":"active"}"#)
                _ = try client.call("PUBLISH", RedisKeys.channel("a1"), event(sequence))
            }
        }

        private func publish(_ range: ClosedRange<Int>) throws {
            try Self.publish(range, to: redis.url)
        }

        /// Expects RESUMED and then every event from `since` to `last` as published.
        private func expectReplay(_ since: Int, _ last: Int) throws {
            let watcher = try gateway.watch("a1", since: since)
            let first = try watcher.next()
            #expect(first.type == "RESUMED" && first.json["since"] as? Int == since && first.sequence == last)
            #expect(first.json["replayed"] as? Int == last - since && first.json["complete"] as? Bool == true)
            for sequence in stride(from: since + 1, through: last, by: 1) {
                #expect(try watcher.next().text == Self.event(sequence))
            }
        }

        @Test("a resume is served from the gateway's own events, without a read of Redis")
        func fromRing() throws {
            let keeper = try gateway.watch("a1")
            _ = try keeper.next()
            try publish(1...10)
            try keeper.until { $0.sequence == 10 }
            let reads =
                try gateway.metric("gavelcast_log_reads_total")
                + gateway.metric("gavelcast_state_reads_total")
            for since in [0, 3, 9, 10] { try expectReplay(since, 10) }
            let after =
                try gateway.metric("gavelcast_log_reads_total")
                + gateway.metric("gavelcast_state_reads_total")
            #expect(after == reads)
            #expect(try gateway.metric("gavelcast_resumes_total") == 4)
        }

        @Test(
            "a resume is served from Redis' log if the gateway dropped the events or never saw the auction"
        )
        func fromLog() throws {
            try publish(1...40)
            try expectReplay(5, 40)
            let keeper = try gateway.watch("a1")
            _ = try keeper.next()
            try publish(41...50)
            try keeper.until { $0.sequence == 50 }
            try expectReplay(0, 50)
            try expectReplay(45, 50)
        }

        @Test("what the log no longer has, and a cursor that is ahead, get a SNAPSHOT that says so")
        func incomplete() throws {
            // An entry of the log that claims no place in the order is no event to replay.
            _ = try redis.client().call(
                "XADD", RedisKeys.log("a1"), "0-1", "e", #"{"type":"NOTE","auction_id":"a1"}"#)
            try publish(1...20)
            // Another gateway, because this one would keep what it read.
            let other = try GatewayProcess(redis: [redis.url])
            #expect(try other.watch("a1", since: 0).next().json["replayed"] as? Int == 20)
            _ = try redis.client().call("XTRIM", RedisKeys.log("a1"), "MINID", "11-0")
            for since in [3, 9, 21, 9_000] {
                let watcher = try gateway.watch("a1", since: since)
                let first = try watcher.next()
                #expect(
                    first.type == "SNAPSHOT" && first.json["complete"] as? Bool == false
                        && first.sequence == 20)
                #expect(first.state?["status"] as? String == "active")
            }
            try expectReplay(10, 20)
            for bad in ["x", "-1", "", "1.5", "9007199254740992"] {
                let reply = try WebSocketClient(port: gateway.port, path: "/v1/auctions/a1/live?since=\(bad)")
                    .handshake
                #expect(reply.status == 400, "\(bad)")
            }
        }

        @Test("1,000 watchers that resume at once cost Redis one read, and all continue")
        func crowd() throws {
            try publish(1...40)
            let ports = gateway.ports
            let before = try gateway.metric("gavelcast_log_reads_total")
            let sockets = try together(8) { thread in
                try (0..<125).map { index in
                    let watcher = try Watcher(ports, auctionID: "a1", since: (thread * 125 + index) % 40)
                    try watcher.until { $0.sequence == 40 && $0.type != "RESUMED" }
                    try watcher.checkPromises()
                    return watcher.messages.count
                }
            }
            #expect(sockets.joined().count == 1_000)
            #expect(try gateway.metric("gavelcast_resumes_total") == 1_000)
            #expect(try gateway.metric("gavelcast_log_reads_total") == before + 1)
        }

        @Test("disconnecting again and again in a stream of events misses nothing and sees nothing twice")
        func churn() throws {
            let url = redis.url
            let publisher = Thread { try? Self.publish(1...400, to: url) }
            publisher.start()
            var seen: [Int] = []
            var cursor = 0
            while cursor < 400 {
                let watcher = try gateway.watch("a1", since: cursor)
                let first = try watcher.next()
                #expect(first.type == "RESUMED" && first.json["since"] as? Int == cursor)
                for _ in 0..<Int.random(in: 1...30) where cursor < 400 {
                    let message = try watcher.next()
                    let from = message.json["from_seq"] as? Int ?? message.sequence
                    seen += from...message.sequence
                    cursor = message.sequence
                }
                watcher.socket.close()
            }
            #expect(seen == Array(1...400))
        }
    }
}
