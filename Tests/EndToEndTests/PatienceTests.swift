import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

/// What takes the gateway its time: these mostly wait, so they run beside the others.
@Suite struct PatienceTests {
    private static let ended = #"{"type":"AUCTION_ENDED","auction_id":"a1","seq":1,"outcome":"unsold"}"#

    @Test("after an auction's end its watchers are told to go, paced; connections with many auctions stay")
    func ending() throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--heartbeat-seconds", "300"])
        let watchers = try WatchTransport.allCases.filter { $0.form != .longPoll }.map {
            try gateway.watch("a1", over: $0)
        }
        for watcher in watchers { _ = try watcher.next() }
        let client = try redis.client()
        _ = try client.call("XADD", RedisKeys.log("a1"), "1-0", "e", Self.ended)
        _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":1,"status":"unsold"}"#)
        let start = Date.now
        try redis.publish("a1", Self.ended)
        for watcher in watchers { #expect(try watcher.next().type == "AUCTION_ENDED") }

        let late = try gateway.watch("a1")
        #expect(try late.next().state?["status"] as? String == "unsold")
        let path = "/v1/auctions/a1/live"
        let atEnd = try EventStreamClient(port: gateway.port, path: path, fields: ["Last-Event-ID": "1"])
        #expect(atEnd.reply.status == 204, "a browser stops coming back")
        let before = try EventStreamClient(port: gateway.port, path: path, fields: ["Last-Event-ID": "0"])
        #expect(before.reply.status == 200)
        for query in ["?since=1", "?since=0", ""] {
            #expect(try gateway.get(path + query).json["ended"] as? Bool == true, "\(query)")
        }
        #expect(try gateway.watch("a1", since: 1).next().type == "RESUMED")
        // On another gateway, which knows nothing of it yet.
        let other = try GatewayProcess(redis: [redis.url])
        let cold = try EventStreamClient(port: other.port, path: path + "?since=1")
        #expect(cold.reply.status == 204)

        var codes: [WatchTransport: Int] = [:]
        for watcher in watchers {
            switch watcher.transport.form {
            case .webSocket: codes[.webSocket] = try Self.closeCode(watcher.socket)
            case .eventStream: codes[.eventStream] = try watcher.next(within: 90).json["code"] as? Int
            case .longPoll, .manyOverWebSocket, .manyOverEventStream: break
            }
        }
        #expect(codes == [.webSocket: 1_000, .eventStream: 1_000])
        #expect(Date.now.timeIntervalSince(start) >= 59)
        #expect(try Self.closeCode(late.socket) == 1_000)
        for watcher in watchers where watcher.transport == .manyOverWebSocket {
            try watcher.socket.send(text: #"{"type":"PING","t":1}"#)
            #expect(try watcher.next().type == "PONG")
        }
        try redis.publish("a1", #"{"type":"NOTE","auction_id":"a1"}"#)
        for watcher in watchers where watcher.transport == .manyOverEventStream {
            #expect(try watcher.next().type == "NOTE")
        }
    }

    private static func closeCode(_ socket: WebSocketClient) throws -> Int? {
        let deadline = Date.now + 90
        while Date.now < deadline {
            switch try socket.next(milliseconds: 90_000) {
            case .close(let code, _)?: return code.map { Int($0) }
            case .ping(let payload)?: try socket.send(WebSocketClient.frame(0xA, payload))
            case .end?, nil: return nil
            default: continue
            }
        }
        return nil
    }

    @Test(
        "the number of viewers is summed over gateways, told when it has changed, and forgets a gateway that died"
    )
    func viewers() throws {
        let redis = try RedisServer()
        let arguments = ["--viewers-seconds", "1"]
        let one = try GatewayProcess(redis: [redis.url], arguments: arguments)
        let two = try GatewayProcess(redis: [redis.url], arguments: arguments)
        let first = try one.watch("a1")
        let stream = try one.watch("a1", over: .manyOverEventStream)
        let others = try (0..<2).map { _ in try two.watch("a1", over: .eventStream) }
        for watcher in [first, stream] + others {
            #expect(try watcher.next().type == "SNAPSHOT")
            let told = try watcher.until { $0.json["count"] as? Int == 4 }
            #expect(told.type == "VIEWERS" && told.json["seq"] == nil)
            #expect(told.json["auction_id"] as? String == "a1" && told.json["server_time"] is String)
        }
        #expect(others[0].streamID == "0", "the cursor did not move")
        let hash = try #require(try redis.client().call("HGETALL", RedisKeys.viewers("a1")).array)
        #expect(hash.count == 4)
        for index in [1, 3] {
            let text = String(decoding: hash[index].bytes ?? [], as: UTF8.self)
            #expect(text.wholeMatch(of: /2:\d{13}/) != nil, "\(text)")
        }
        let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
        let auctionID = try api.user("seller").createAuction(
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
        let viewer = try one.watch(auctionID)
        try viewer.until { $0.json["count"] as? Int == 1 }
        let client = HTTPClient(port: api.port)
        #expect(try client.request("GET", "/api/v1/auctions/\(auctionID)").json["viewer_count"] as? Int == 1)

        let poll = try one.get("/v1/auctions/a1/live?since=0&timeout=4").json
        #expect((poll["events"] as? [Any])?.isEmpty == true, "polls are not told")

        two.process.kill(SIGKILL)
        #expect(try first.until { $0.json["count"] as? Int == 2 }.type == "VIEWERS")
        // A Redis that was emptied has lost the script too.
        redis.kill()
        try redis.start()
        try eventually("the number is there again") {
            try redis.client().call("HVALS", RedisKeys.viewers("a1")).array?.isEmpty == false
        }
        redis.kill()
        let unknown = try client.request("GET", "/api/v1/auctions/\(auctionID)")
        #expect(unknown.status == 200 && unknown.json["viewer_count"] is NSNull)
    }

    @Test("while Redis cannot be read, new watchers are kept, and told after a while to come back")
    func withoutRedis() throws {
        let redis = try RedisServer()
        redis.kill()
        let gateway = try GatewayProcess(redis: [redis.url], waitsUntilReady: false)
        let watchers = try WatchTransport.allCases.filter { $0.form != .longPoll }.map {
            try gateway.watch("a1", over: $0)
        }
        let resuming = try HTTPClient(port: gateway.port).request(
            "GET", "/v1/auctions/a1/live?since=7&timeout=1")
        #expect(resuming.status == 200 && resuming.json["seq"] as? Int == 7, "nothing came is true")
        let poll = try HTTPClient(port: gateway.port, timeoutMilliseconds: 30_000).request(
            "GET", "/v1/auctions/a1/live")
        #expect(poll.status == 503 && poll.fields["retry-after"] != nil)
        for watcher in watchers {
            switch watcher.transport.form {
            case .webSocket: #expect(try Self.closeCode(watcher.socket) == 1_013)
            case .eventStream, .manyOverEventStream:
                let close = try watcher.next(within: 30)
                #expect(close.json["code"] as? Int == 1_013 && close.json["retry_after_ms"] != nil)
            case .manyOverWebSocket:
                let error = try watcher.next(within: 30)
                #expect(error.json["error"] as? String == "UNAVAILABLE")
                #expect(error.json["auction_id"] as? String == "a1")
                try redis.start()
                try eventually("the link is up") { try gateway.isOK("/readyz") }
                try watcher.socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"a1"}"#)
                #expect(try watcher.next().type == "SNAPSHOT", "the connection went on")
            case .longPoll: break
            }
        }
    }
}
