import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// `/v1/live`: many auctions on one connection.
    @Suite(.serialized) struct ManyAuctions {
        let redis: RedisServer
        let gateway: GatewayProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url])
        }

        private func event(_ auction: String, _ sequence: Int, filler: Int = 0, type: String = "BID_UPDATE")
            -> String
        {
            #"{"type":"\#(type)","auction_id":"\#(auction)","seq":\#(sequence),"f":"\#(String(repeating: "x", count: filler))"}"#
        }

        private func publish(_ auction: String, _ sequence: Int) throws {
            try redis.publish(auction, event(auction, sequence))
        }

        private func connect(receiveBufferBytes: Int? = nil) throws -> WebSocketClient {
            let socket = try WebSocketClient(
                port: gateway.port, path: "/v1/live", receiveBufferBytes: receiveBufferBytes)
            try #require(socket.handshake.status == 101)
            return socket
        }

        private func next(_ socket: WebSocketClient) throws -> Received {
            guard case .text(let text)? = try socket.next() else { throw TimedOut(description: "no message") }
            return try Received(text)
        }

        private func subscribe(_ socket: WebSocketClient, _ auction: String, since: Int? = nil) throws {
            let since = since.map { #","since":\#($0)"# } ?? ""
            try socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"\#(auction)"\#(since)}"#)
        }

        @Test("subscriptions come, go and resume on one WebSocket, each auction in its own order")
        func webSocket() throws {
            let socket = try connect()
            for auction in ["a1", "a2"] {
                try subscribe(socket, auction)
                let first = try next(socket)
                #expect(first.type == "SNAPSHOT" && first.json["auction_id"] as? String == auction)
            }
            for sequence in 1...3 {
                for auction in ["a1", "a2"] {
                    try publish(auction, sequence)
                    #expect(try next(socket).text == event(auction, sequence))
                }
            }
            try socket.send(text: #"{"type":"UNSUBSCRIBE","auction_id":"a1"}"#)
            #expect(try next(socket).text == #"{"type":"UNSUBSCRIBED","auction_id":"a1"}"#)
            try publish("a1", 4)
            try publish("a2", 4)
            #expect(try next(socket).text == event("a2", 4), "nothing of the one that was left")
            try subscribe(socket, "a1", since: 2)
            let resumed = try next(socket)
            #expect(resumed.type == "RESUMED" && resumed.json["replayed"] as? Int == 2)
            #expect(try next(socket).text == event("a1", 3) && next(socket).text == event("a1", 4))
            // Again on the same auction: from the new cursor, and no event twice.
            try subscribe(socket, "a1", since: 3)
            #expect(try next(socket).type == "RESUMED" && next(socket).sequence == 4)
            try publish("a1", 5)
            #expect(try next(socket).text == event("a1", 5))
            try socket.send(text: #"{"type":"PING","t":1}"#)
            #expect(try next(socket).type == "PONG")
            #expect(try gateway.metric("gavelcast_subscriptions") == 2)
            socket.close()
            try eventually("its subscriptions are gone") {
                try gateway.metric("gavelcast_subscriptions") == 0
                    && gateway.metric("gavelcast_connections") == 1
            }
        }

        @Test(
            "what is wrong is answered by an ERROR that names it, and the connection goes on",
            arguments: [
                (#"{"type":"SUBSCRIBE"}"#, "BAD_AUCTION_ID", nil as String?),
                (#"{"type":"SUBSCRIBE","auction_id":"a b"}"#, "BAD_AUCTION_ID", nil),
                (#"{"type":"SUBSCRIBE","auction_id":7}"#, "BAD_AUCTION_ID", nil),
                (#"{"type":"SUBSCRIBE","auction_id":"a1","since":-1}"#, "BAD_CURSOR", "a1"),
                (#"{"type":"SUBSCRIBE","auction_id":"a1","since":"3"}"#, "BAD_CURSOR", "a1"),
                (#"{"type":"SUBSCRIBE","auction_id":"a1","since":1e3}"#, "BAD_CURSOR", "a1"),
                (#"{"type":"SUBSCRIBE","auction_id":"prv_1"}"#, "UNAUTHORIZED", "prv_1"),
                (#"{"type":"UNSUBSCRIBE","auction_id":"a1"}"#, "NOT_SUBSCRIBED", "a1"),
                (#"{"type":"SING"}"#, "UNKNOWN_TYPE", nil), (#"{}"#, "UNKNOWN_TYPE", nil),
            ])
        func errors(_ text: String, _ code: String, _ auctionID: String?) throws {
            let socket = try connect()
            try socket.send(text: text)
            let error = try next(socket)
            #expect(error.type == "ERROR" && error.json["error"] as? String == code, "\(error.text)")
            #expect(error.json["auction_id"] as? String == auctionID && error.json["message"] is String)
            try subscribe(socket, "a1")
            #expect(try next(socket).type == "SNAPSHOT")
        }

        @Test("text that is no JSON object closes with 1008")
        func noObject() throws {
            let socket = try connect()
            try socket.send(text: "[1]")
            guard case .close(let code, _)? = try socket.next() else {
                Issue.record("no close frame")
                return
            }
            #expect(code == 1_008)
        }

        @Test("subscriptions are bounded, and the one over the bound is refused alone")
        func bounded() throws {
            let socket = try connect()
            for index in 0...1_000 { try subscribe(socket, "a\(index)") }
            var refusals: [String] = []
            for _ in 0...1_000 {
                let message = try next(socket)
                if message.type == "ERROR" { refusals.append(message.json["auction_id"] as? String ?? "") }
            }
            #expect(refusals == ["a1000"])
        }

        @Test("a client that subscribes to everything before it reads gets every first message")
        func rush() throws {
            let filler = String(repeating: "x", count: 4_000)
            let states = (0..<1_000).map {
                ["SET", RedisKeys.state("a\($0)"), #"{"seq":0,"f":"\#(filler)"}"#]
            }
            _ = try redis.client().pipeline(states.map { $0.map { Array($0.utf8) } })
            let socket = try connect(receiveBufferBytes: 4_096)
            // Twice: first each is read from Redis, then the gateway knows them.
            for _ in 0..<2 {
                for index in 0..<1_000 { try subscribe(socket, "a\(index)") }
                var seen: Set<String> = []
                while seen.count < 1_000 {
                    let message = try next(socket)
                    #expect(message.type == "SNAPSHOT")
                    seen.insert(try #require(message.json["auction_id"] as? String))
                }
            }
            try socket.send(text: #"{"type":"PING","t":1}"#)
            #expect(try next(socket).type == "PONG")
        }

        @Test("one stream of several auctions carries a cursor for each in its id, by which it goes on")
        func stream() throws {
            let path = "/v1/live?auctions=a1,a2,a1"
            let stream = try EventStreamClient(port: gateway.port, path: path)
            #expect(stream.reply.status == 200)
            var ids: [String?] = []
            func nextMessage(_ stream: EventStreamClient) throws -> Received {
                while let event = try stream.next() {
                    if event.isComment || event.retry != nil { continue }
                    ids.append(event.id)
                    return try Received(event.data)
                }
                throw TimedOut(description: "no event")
            }
            let firsts = [try nextMessage(stream), try nextMessage(stream)]
            #expect(firsts.allSatisfy { $0.type == "SNAPSHOT" })
            #expect(ids.last == "a1:0,a2:0")
            for (auction, sequence, id) in [
                ("a1", 1, "a1:1,a2:0"), ("a2", 1, "a1:1,a2:1"), ("a1", 2, "a1:2,a2:1"),
            ] {
                try publish(auction, sequence)
                #expect(try nextMessage(stream).text == event(auction, sequence))
                #expect(ids.last == id)
            }
            stream.close()
            for (auction, sequence) in [("a1", 3), ("a2", 2), ("a2", 3)] { try publish(auction, sequence) }
            let resumed = try EventStreamClient(
                port: gateway.port, path: path + "&since=a1:0,a2:0",
                fields: ["Last-Event-ID": "a1:2,a2:1,gone:7"])
            var seen: [String: [Int]] = [:]
            while seen["a1"]?.last != 3 || seen["a2"]?.last != 3 {
                let message = try nextMessage(resumed)
                if message.type == "RESUMED" { continue }
                seen[message.json["auction_id"] as? String ?? "", default: []].append(message.sequence)
            }
            #expect(seen == ["a1": [3], "a2": [2, 3]] && ids.last == "a1:3,a2:3")
        }

        @Test("a slow connection gets each auction's newest price, jumps declared, and every lossless event")
        func slow() throws {
            let auctions = ["a1", "a2", "a3"]
            let socket = try connect(receiveBufferBytes: 4_096)
            let stream = try EventStreamClient(
                port: gateway.port, path: "/v1/live?auctions=a1,a2,a3", receiveBufferBytes: 4_096)
            for auction in auctions { try subscribe(socket, auction) }
            for _ in auctions { _ = try next(socket) }
            let client = try redis.client()
            for sequence in 1...300 {
                for auction in auctions {
                    let type = sequence % 50 == 0 ? "TIME_EXTENDED" : "BID_UPDATE"
                    _ = try client.call(
                        "PUBLISH", "auction:\(auction)", event(auction, sequence, filler: 1_000, type: type))
                }
            }
            try eventually("bids were merged") { try gateway.metric("gavelcast_conflated_total") > 300 }
            var bySocket = Tally(), byStream = Tally()
            while !bySocket.isComplete(auctions, 300) { bySocket.take(try next(socket)) }
            var cursors: [String: Int] = [:]
            while !byStream.isComplete(auctions, 300) {
                let event = try #require(try stream.next())
                guard event.retry == nil, !event.isComment else { continue }
                let message = try Received(event.data)
                byStream.take(message)
                cursors[message.json["auction_id"] as? String ?? ""] = message.sequence
                let known = auctions.filter { cursors[$0] != nil }
                #expect(event.id == known.map { "\($0):\(cursors[$0] ?? 0)" }.joined(separator: ","))
            }
            for tally in [bySocket, byStream] {
                #expect(tally.undeclared.isEmpty, "\(tally.undeclared)")
                for auction in auctions { #expect(tally.lossless[auction] == (1...6).map { $0 * 50 }) }
                #expect(tally.count < 900, "some were merged")
            }
        }

        /// What one connection was told of each auction.
        private struct Tally {
            var cursors: [String: Int] = [:]
            var lossless: [String: [Int]] = [:]
            var undeclared: [String] = []
            var count = 0

            mutating func take(_ message: Received) {
                guard let auction = message.json["auction_id"] as? String else { return }
                count += 1
                if message.type != "SNAPSHOT" {
                    let from = message.json["from_seq"] as? Int ?? message.sequence
                    if from != (cursors[auction] ?? 0) + 1 { undeclared.append("\(auction) \(from)") }
                }
                cursors[auction] = message.sequence
                if message.type == "TIME_EXTENDED" { lossless[auction, default: []].append(message.sequence) }
            }

            func isComplete(_ auctions: [String], _ last: Int) -> Bool {
                auctions.allSatisfy { cursors[$0] == last }
            }
        }
    }
}
