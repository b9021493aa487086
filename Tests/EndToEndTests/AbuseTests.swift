import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What an independent attack on the gateway found, each mended and kept here.
    @Suite(.serialized) struct Abuse {
        let redis: RedisServer
        let gateway: GatewayProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--workers", "1", "--slow-deadline-seconds", "2"])
        }

        /// Gives an auction `count` lossless events of `bytes` in Redis' log.
        private func fill(_ auctionID: String, count: Int, bytes: Int, isEnded: Bool = false) throws {
            let filler = String(repeating: "x", count: bytes)
            var commands = (1...count).map {
                let event = #"{"type":"NOTE","auction_id":"\#(auctionID)","seq":\#($0),"f":"\#(filler)"}"#
                return ["XADD", RedisKeys.log(auctionID), "\($0)-0", "e", event]
            }
            let status = isEnded ? "sold" : "active"
            commands.append(["SET", RedisKeys.state(auctionID), #"{"seq":\#(count),"status":"\#(status)"}"#])
            _ = try redis.client().pipeline(commands.map { $0.map { Array($0.utf8) } })
        }

        private func checkServes() throws {
            #expect(gateway.process.isRunning)
            let watcher = try gateway.watch("bystander")
            #expect(try watcher.next().type == "SNAPSHOT")
        }

        @Test("a client that keeps subscribing and reads nothing is closed, and nobody else is affected")
        func subscribesWithoutReading() throws {
            try fill("a1", count: 200, bytes: 8_000)
            for since in [1, 0] {
                let closes = try gateway.metric("gavelcast_slow_closes_total")
                let socket = try WebSocketClient(
                    port: gateway.port, path: "/v1/live", receiveBufferBytes: 4_096)
                for _ in 0..<50 {
                    try? socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"a1","since":\#(since)}"#)
                }
                try eventually("it is closed as too slow") {
                    try gateway.metric("gavelcast_slow_closes_total") == closes + 1
                }
                socket.close()
                try checkServes()
            }
            // The same over an event stream, which subscribes to all in one request.
            for number in 2...12 { try fill("a\(number)", count: 100, bytes: 8_000) }
            let auctions = (2...12).map { "a\($0)" }.joined(separator: ",")
            let cursors = (2...12).map { "a\($0):1" }.joined(separator: ",")
            let stream = try EventStreamClient(
                port: gateway.port, path: "/v1/live?auctions=\(auctions)&since=\(cursors)",
                receiveBufferBytes: 4_096)
            try checkServes()
            stream.close()
            try checkServes()
        }

        @Test(
            "nothing is sent after a watcher is told that it is too slow",
            arguments: [WatchTransport.webSocket, .eventStream])
        func nothingAfterClose(_ transport: WatchTransport) throws {
            let watcher = try gateway.watch("a1", over: transport, receiveBufferBytes: 4_096)
            #expect(try watcher.next().type == "SNAPSHOT")
            let filler = String(repeating: "x", count: 1_000)
            let commands = (1...600).map {
                [
                    "PUBLISH", "auction:a1",
                    #"{"type":"NOTE","auction_id":"a1","seq":\#($0),"f":"\#(filler)"}"#,
                ].map { Array($0.utf8) }
            }
            _ = try redis.client().pipeline(commands)
            try eventually("it is too slow") { try gateway.metric("gavelcast_slow_closes_total") == 1 }
            var last = 0
            if transport == .webSocket {
                var message = try watcher.socket.next()
                while case .text(let text)? = message {
                    let event = try Received(text)
                    #expect(event.sequence == last + 1)
                    last = event.sequence
                    message = try watcher.socket.next()
                }
                guard case .close(4008, _)? = message else {
                    Issue.record("\(String(describing: message)) after \(last)")
                    return
                }
                #expect(try watcher.socket.next() == .end)
            } else {
                while let message = try watcher.nextIfAny(within: 10), message.json["code"] == nil {
                    #expect(message.sequence == last + 1)
                    last = message.sequence
                }
                // The stream's end, and no further event.
                #expect(throws: SocketFailure.self) { _ = try watcher.nextIfAny(within: 10) }
            }
            try checkServes()
        }

        @Test(
            "the answer to a request that was sent ahead has its head, however slowly the earlier ones are taken"
        )
        func headAfterBacklog() throws {
            try fill("a1", count: 3, bytes: 10)
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            let page = "GET /gavelcast.js HTTP/1.1\r\nHost: a\r\n\r\n"
            let streams =
                "GET /v1/auctions/a1/live?since=1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
            let socket = try BlockingSocket(port: gateway.port, receiveBufferBytes: 4_096)
            try socket.send(Array((String(repeating: page, count: 6) + streams).utf8))
            var received: [UInt8] = []
            while received.firstRange(of: Array("event: RESUMED".utf8)) == nil {
                guard let bytes = try socket.receive(milliseconds: 5_000), !bytes.isEmpty else { break }
                received += bytes
            }
            let text = String(decoding: received, as: UTF8.self)
            let heads = text.ranges(of: "HTTP/1.1 200 OK").count
            // Either all answers came, each with its head, or the connection ended after a whole one.
            #expect(!text.contains("event: RESUMED") || heads == 7 && text.contains("text/event-stream"))
            #expect(heads >= 1)
        }

        @Test("a request behind a stream that is over already is answered too, wherever it is cut")
        func pipelinedBehindStream() throws {
            try fill("a1", count: 3, bytes: 10, isEnded: true)
            let stream =
                "GET /v1/auctions/a1/live?since=3 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
            let socket = try BlockingSocket(port: gateway.port)
            try socket.send(Array((stream + "GET /nope HTTP/1.1\r\nHost: a\r\nX-Comment: ").utf8))
            let first = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
            #expect(first.head.status == 204)
            try socket.send(Array("GET / HTTP/1.1\r\n\r\n".utf8))
            let second = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
            #expect(second.head.status == 404, "the field's value was read as a request")
        }

        @Test("a gateway that is full still says that it is well")
        func adminWhenFull() throws {
            let small = try GatewayProcess(
                redis: [redis.url], arguments: ["--workers", "1", "--max-connections", "20"])
            let sockets = try (0..<200).map { _ in try BlockingSocket(port: small.port) }
            try eventually("it is full") {
                try small.metric("gavelcast_refusals_total{reason=\"capacity\"}") > 0
            }
            #expect(try small.isOK("/healthz") && small.isOK("/readyz"))
            for socket in sockets { socket.close() }
        }

        @Test("a client that sends new TLS keys without end is closed, and the loop goes on meanwhile")
        func keyUpdates() throws {
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            let flood = try BlockingSocket(port: gateway.securePort, tls: gateway.ports.tls)
            var updates = 0
            while updates < 20_000, (try? flood.renewKeys()) != nil { updates += 1 }
            try eventually("it is closed") { try gateway.metric("gavelcast_protocol_errors_total") == 1 }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
        }

        @Test("a plain HTTP request to the TLS port gets an error that says so")
        func plainOnSecurePort() throws {
            let socket = try BlockingSocket(port: gateway.securePort)
            try socket.send(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
            let reply = try HTTPClient.readReply(socket).reply
            #expect(reply.status == 400 && reply.json["error"] as? String == "TLS_REQUIRED")
        }

        @Test("origins that only look like the host are refused")
        func formalities() throws {
            let lookalikes = [
                "x://127.0.0.1", "://127.0.0.1", "http://127.0.0.1.evil", "null", "HTTP://127.0.0.1", "",
            ]
            for origin in lookalikes {
                let status = try HTTPClient(port: gateway.port).request(
                    "GET", "/v1/auctions/a1/live", fields: ["Origin": origin]
                ).status
                #expect(status == 403, "'\(origin)'")
            }
            #expect(
                try HTTPClient(port: gateway.port).request(
                    "GET", "/v1/auctions/a1/live", fields: ["Origin": "https://127.0.0.1:\(gateway.port)"]
                ).status == 200)
            let empty = try HTTPClient(port: gateway.adminPort).request(
                "GET", "/healthz", fields: ["Origin": ""])
            #expect(empty.status == 403)
        }
    }
}
