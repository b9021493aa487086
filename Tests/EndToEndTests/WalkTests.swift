import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// How events are brought to many watchers.
    @Suite(.serialized) struct Walks {
        private func event(_ sequence: Int, type: String = "BID_UPDATE", auction: String = "a1") -> String {
            #"{"type":"\#(type)","auction_id":"\#(auction)","seq":\#(sequence)}"#
        }

        @Test("while a hot auction is walked, another auction and newcomers are served, and nothing is lost")
        func fairness() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            let ports = gateway.ports
            let watchers = try (0..<1_500).map { _ in try Watcher(ports, auctionID: "a1") }
            for watcher in watchers { _ = try watcher.next() }
            let quiet = try gateway.watch("a2")
            _ = try quiet.next()
            // What has no place in the order neither merges nor shares a send: 450,000 of them.
            let notes = (1...300).map { #"{"type":"NOTE","auction_id":"a1","number":\#($0)}"# }
            let commands = (notes + [event(1)]).map { ["PUBLISH", "auction:a1", $0].map { Array($0.utf8) } }
            _ = try redis.client().pipeline(commands)
            try redis.publish("a2", event(1, auction: "a2"))
            #expect(try quiet.next().sequence == 1)
            #expect(try gateway.watch("a3").next().type == "SNAPSHOT")
            for watcher in watchers {
                try watcher.until { $0.sequence == 1 }
                #expect(watcher.messages.count { $0.type == "NOTE" } == 300)
            }
        }

        @Test(
            "a burst leaves in one send for each watcher, in order, also where a watcher has seen part of it")
        func burst() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            let socket = try BlockingSocket(port: gateway.port)
            try socket.send(
                Array(
                    ("GET /v1/auctions/a1/live HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                        + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").utf8))
            try eventually("it watches") { try gateway.metric("gavelcast_snapshots_total") == 1 }
            _ = try socket.receive(milliseconds: 1_000)
            let watchers = try [.webSocket, .eventStream, .longPoll, .manyOverWebSocket].map {
                try gateway.watch("a1", over: $0)
            }
            for watcher in watchers { _ = try watcher.next() }
            let types = ["BID_UPDATE", "TIME_EXTENDED", "BID_UPDATE", "BID_UPDATE"]
            let events = (1...12).map { event($0, type: types[$0 % 4]) }
            // A transaction's messages leave Redis together.
            let commands = [["MULTI"]] + events.map { ["PUBLISH", "auction:a1", $0] } + [["EXEC"]]
            _ = try redis.client().pipeline(commands.map { $0.map { Array($0.utf8) } })
            let received = try #require(try socket.receive(milliseconds: 5_000))
            #expect(
                String(decoding: received, as: UTF8.self).contains(events[11]), "the last came with the first"
            )
            for watcher in watchers {
                try watcher.until { $0.sequence == 12 }
                try watcher.checkPromises()
                let seen = watcher.messages.filter { $0.type != "SNAPSHOT" }
                #expect(seen.map(\.sequence) == Array(1...12))
                // A poll's events are parsed out of its answer.
                #expect(watcher.transport.form == .longPoll || seen.map(\.text) == events)
            }
        }
    }
}
