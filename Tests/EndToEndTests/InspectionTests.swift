import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What an operator may look at.
    @Suite(.serialized) struct Inspection {
        let redis: RedisServer
        let gateway: GatewayProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--workers", "2", "--send-buffer-bytes", "4608"])
        }

        private func ask(_ path: String) throws -> HTTPReply {
            try HTTPClient(port: gateway.adminPort).request("GET", path)
        }

        private static func event(_ sequence: Int, filler: Int = 0) -> String {
            let text = String(repeating: "x", count: filler)
            return #"{"type":"NOTE","auction_id":"a1","seq":\#(sequence),"f":"\#(text)"}"#
        }

        @Test("an auction's watchers by loop and transport, its sequence, and a gap while it is open")
        func auction() throws {
            #expect(try ask("/v1/auctions/a1").status == 404)
            #expect(try ask("/v1/auctions/a.b").status == 400)
            let transports: [WatchTransport] = [
                .webSocket, .webSocket, .eventStream, .manyOverWebSocket, .manyOverEventStream,
            ]
            let watchers = try transports.map { try gateway.watch("a1", over: $0) }
            for watcher in watchers { _ = try watcher.next() }
            try redis.publish("a1", Self.event(1))
            for watcher in watchers { #expect(try watcher.next().sequence == 1) }
            let calm = try ask("/v1/auctions/a1").json
            #expect(calm["seq"] as? Int == 1 && calm["live"] as? Bool == true && calm["gap_ms"] is NSNull)
            let loops = try #require(calm["loops"] as? [[String: Any]])
            func sum(_ key: String) -> Int { loops.reduce(0) { $0 + ($1[key] as? Int ?? 0) } }
            #expect(loops.count == 2 && calm["missing"] as? Int == 0)
            #expect(sum("websocket") == 2 && sum("sse") == 1 && sum("subscriptions") == 2)
            // The log has nothing for the gap, so it stays open for a second.
            try redis.publish("a1", Self.event(3))
            try eventually("the gap is seen") {
                let answer = try self.ask("/v1/auctions/a1").json
                return answer["gap_ms"] as? Int != nil && answer["held_events"] as? Int == 1
            }
            for watcher in watchers { #expect(try watcher.next().type == "SNAPSHOT") }
            try eventually("the gap is over") { try self.ask("/v1/auctions/a1").json["gap_ms"] is NSNull }
        }

        @Test("the clients that have taken nothing for longest, and a limit that makes no sense")
        func slowest() throws {
            let quick = try gateway.watch("a1")
            let slow = try gateway.watch("a1", over: .eventStream, receiveBufferBytes: 4_096)
            _ = (try quick.next(), try slow.next())
            for sequence in 1...12 {
                try redis.publish("a1", Self.event(sequence, filler: 4_000))
                #expect(try quick.next().sequence == sequence)
            }
            try eventually("one client is slow") {
                let answer = try self.ask("/v1/watchers").json
                let watchers = try #require(answer["watchers"] as? [[String: Any]])
                guard let first = watchers.first else { return false }
                #expect(watchers.count == 1)
                return first["transport"] as? String == "sse" && first["auction_id"] as? String == "a1"
                    && first["address"] as? String == "127.0.0.1" && first["newest"] as? Int == 12
                    && first["waiting_bytes"] as? Int ?? 0 > 4_000
                    && first["waiting_ms"] as? Int ?? 0 >= 250
            }
            let auction = try ask("/v1/auctions/a1").json
            let loops = try #require(auction["loops"] as? [[String: Any]])
            #expect(
                loops.contains { $0["backlogs"] as? Int == 1 && $0["oldest_backlog_ms"] as? Int ?? 0 > 0 })
            for value in ["0", "1001", "x", ""] {
                #expect(try ask("/v1/watchers?slowest=\(value)").status == 400)
            }
            slow.close()
            try eventually("it has gone") {
                (try self.ask("/v1/watchers?slowest=1").json["watchers"] as? [Any])?.isEmpty == true
            }
        }

        @Test("the Redis servers, and one that does not deliver")
        func servers() throws {
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            func server() throws -> [String: Any] {
                try #require((ask("/v1/redis").json["servers"] as? [[String: Any]])?.first)
            }
            try eventually("it delivers") {
                let server = try server()
                return server["delivers"] as? Bool == true && server["probe_age_ms"] as? Int ?? .max < 2_000
                    && server["topics"] as? Int == 1
            }
            redis.kill()
            try eventually("it does not") { try server()["delivers"] as? Bool == false }
            #expect(try HTTPClient(port: gateway.adminPort).request("HEAD", "/v1/redis").status == 200)
            #expect(try HTTPClient(port: gateway.adminPort).request("POST", "/v1/redis").status == 405)
        }
    }
}
