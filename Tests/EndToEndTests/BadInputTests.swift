import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What peers send that they should not: each gets the contract's answer and disturbs nobody.
    @Suite(.serialized) struct BadInput {
        let redis: RedisServer
        let gateway: GatewayProcess
        /// A watcher that must not notice anything.
        let bystander: Watcher

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url], arguments: ["--echo-path", "/echo"])
            bystander = try gateway.watch("bystander")
            #expect(try bystander.next().type == "SNAPSHOT")
        }

        /// Whether the bystander still gets its events.
        private func checkBystander() throws {
            let next = bystander.messages.count
            try redis.publish("bystander", #"{"type":"BID_UPDATE","auction_id":"bystander","seq":\#(next)}"#)
            #expect(try bystander.next().sequence == next)
            try bystander.checkPromises()
        }

        private func answer(_ request: String) throws -> HTTPReply {
            let socket = try BlockingSocket(port: gateway.port)
            try socket.send(Array(request.utf8))
            return try HTTPClient.readReply(socket).reply
        }

        @Test("malformed, oversized and misdirected requests get their status and an error object")
        func requests() throws {
            let host = "Host: a\r\n"
            let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            let live = "GET /v1/auctions/a1/live HTTP/1.1\r\n" + host
            let many = "GET /v1/live"
            let stream = "Accept: text/event-stream\r\n"
            let tooMany = (1...51).map { "a\($0)" }.joined(separator: ",")
            let cases: [(String, Int)] = [
                ("nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
                ("GET / HTTP/3\r\n\(host)\r\n", 400),
                ("GET /nowhere HTTP/1.1\r\n\(host)\r\n", 404),
                ("GET /v1/auctions//live HTTP/1.1\r\n\(host)\r\n", 404),
                ("GET /v1/auctions/a%20b/live HTTP/1.1\r\n\(host)\(websocket)\r\n", 400),
                ("GET /v1/auctions/\(String(repeating: "x", count: 65))/live HTTP/1.1\r\n\(host)\r\n", 400),
                ("DELETE /v1/auctions/a1/live HTTP/1.1\r\n\(host)\r\n", 405),
                ("PUT / HTTP/1.1\r\n\(host)\r\n", 405),
                ("POST /v1/auctions/a1/live HTTP/1.1\r\n\(host)Content-Length: 5\r\n\r\nhello", 405),
                ("GET / HTTP/1.1\r\n\(host)Content-Length: 5\r\n\r\nhello", 413),
                ("GET /\(String(repeating: "t", count: 5_000)) HTTP/1.1\r\n\(host)\r\n", 414),
                ("GET / HTTP/1.1\r\n\(host)X: \(String(repeating: "y", count: 9_000))\r\n\r\n", 431),
                ("\(many) HTTP/1.1\r\n\(host)\r\n", 400), ("\(live)\(websocket)\(key)\r\n", 426),
                ("\(many) HTTP/1.1\r\n\(host)\(stream)\r\n", 400),
                ("\(many)?auctions=a,b%20c HTTP/1.1\r\n\(host)\(stream)\r\n", 400),
                ("\(many)?auctions=a,prv_b HTTP/1.1\r\n\(host)\(stream)\r\n", 401),
                ("\(many)?auctions=a&since=a:x HTTP/1.1\r\n\(host)\(stream)\r\n", 400),
                ("\(many)?auctions=a&since=3 HTTP/1.1\r\n\(host)\(stream)\r\n", 400),
                ("\(many)?auctions=\(tooMany) HTTP/1.1\r\n\(host)\(stream)\r\n", 400),
                ("\(live)\(stream)Last-Event-ID: x\r\n\r\n", 400),
                ("GET /v1/auctions/a1/live?since=%zz HTTP/1.1\r\n\(host)\r\n", 400),
                ("GET /v1/auctions/a1/live?timeout=soon HTTP/1.1\r\n\(host)\r\n", 400),
                ("GET /v1/users/me/live HTTP/1.1\r\n\(host)\(stream)\r\n", 401),
                ("\(live)\(websocket)\(key)Sec-WebSocket-Version: 8\r\n\r\n", 426),
                ("\(live)\(websocket)Sec-WebSocket-Version: 13\r\n\r\n", 400),
                ("\(live)\(websocket)Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n", 400),
                (
                    "\(live)\(websocket)\(key)Sec-WebSocket-Version: 13\r\nOrigin: http://evil.example\r\n\r\n",
                    403
                ),
            ]
            for (request, status) in cases {
                let reply = try answer(request)
                #expect(reply.status == status, "\(request.prefix(60)) got \(reply.status)")
                #expect(
                    reply.json["error"] is String && reply.json["message"] is String, "\(request.prefix(60))")
            }
            let version = try answer("\(live)\(websocket)\(key)Sec-WebSocket-Version: 8\r\n\r\n")
            #expect(version.fields["sec-websocket-version"] == "13")
            let privateAuction = "GET /v1/auctions/prv_1/live HTTP/1.1\r\n\(host)\(websocket)\(key)"
            #expect(try answer("\(privateAuction)Sec-WebSocket-Version: 13\r\n\r\n").status == 401)
            try checkBystander()
        }

        @Test("requests are understood in every form that HTTP/1.1 allows, and their answers are dated")
        func formsOfRequests() throws {
            let host = "Host: a\r\n\r\n"
            let poll = "/v1/auctions/bystander/live?since=0"
            try redis.publish("bystander", #"{"type":"BID_UPDATE","auction_id":"bystander","seq":1}"#)
            #expect(try bystander.next().sequence == 1)
            let requests = [
                "GET \(poll) HTTP/1.1\r\n\(host)", "GET http://a\(poll) HTTP/1.1\r\n\(host)",
                "GET HTTPS://other:80\(poll) HTTP/1.1\r\n\(host)", "\r\n\r\nGET \(poll) HTTP/1.1\r\n\(host)",
                "GET /v1/auctions/by%73tander/live?since=%30 HTTP/1.1\r\n\(host)",
            ]
            for request in requests {
                let reply = try answer(request)
                #expect(reply.status == 200 && reply.json["seq"] as? Int == 1, "\(request) \(reply.text)")
                let date = try #require(reply.fields["date"])
                #expect(
                    date.wholeMatch(of: /[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT/) != nil)
            }
            #expect(try answer("GET http://a HTTP/1.1\r\n\(host)").status == 200)
            #expect(try answer("GET ftp://a/ HTTP/1.1\r\n\(host)").status == 400)
            try checkBystander()
        }

        @Test("a client that asks far ahead gets every page")
        func pagesAhead() throws {
            let socket = try BlockingSocket(port: gateway.port)
            let size = try HTTPClient(port: gateway.port).request("GET", "/").body.count
            let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            try socket.send(Array((String(repeating: request, count: 399) + "GET / HTTP/1.0\r\n\r\n").utf8))
            var count = 0
            while let bytes = try socket.receive(milliseconds: 10_000), !bytes.isEmpty {
                count += bytes.count
            }
            #expect(count > 400 * size)
            try checkBystander()
        }

        @Test("pages are compressed for clients that accept gzip, and sent once while unchanged")
        func pages() throws {
            let http = HTTPClient(port: gateway.port)
            let (plain, gzip) = (
                try http.request("GET", "/"),
                try http.request("GET", "/", fields: ["Accept-Encoding": "br, gzip"])
            )
            #expect(plain.fields["content-encoding"] == nil && gzip.fields["content-encoding"] == "gzip")
            #expect(Array(gzip.body.prefix(2)) == [0x1F, 0x8B] && gzip.body.count < plain.body.count)
            let refusing = try http.request("GET", "/", fields: ["Accept-Encoding": "gzip;q=0"])
            #expect(refusing.body == plain.body)
            var tags: Set<String> = []
            for (reply, encoding) in [(plain, "identity"), (gzip, "gzip")] {
                #expect(reply.fields["vary"] == "Accept-Encoding")
                let tag = try #require(reply.fields["etag"])
                tags.insert(tag)
                for condition in [tag, "\"x\", W/\(tag)", "*"] {
                    let again = try http.request(
                        "GET", "/", fields: ["Accept-Encoding": encoding, "If-None-Match": condition])
                    #expect(again.status == 304 && again.body.isEmpty && again.fields["etag"] == tag)
                }
                let other = try http.request(
                    "GET", "/", fields: ["Accept-Encoding": encoding, "If-None-Match": "\"x\""])
                #expect(other.status == 200 && other.body == reply.body)
            }
            #expect(tags.count == 2)
        }

        @Test("frames that break the protocol close the connection with their code")
        func frames() throws {
            let text = { (text: String) in WebSocketClient.frame(0x1, Array(text.utf8)) }
            let cases: [(String, [UInt8], UInt16)] = [
                ("unmasked", WebSocketClient.frame(0x1, [65], isMasked: false), 1002),
                ("reserved bit", WebSocketClient.frame(0x1, [65], reserved: 0x10), 1002),
                ("oversized", WebSocketClient.frame(0x1, [UInt8](repeating: 65, count: 5_000)), 1009),
                ("claims 2^62 bytes", [0x81, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
                ("bad UTF-8", WebSocketClient.frame(0x1, [0xFF, 0xFE]), 1007),
                ("binary", WebSocketClient.frame(0x2, [1]), 1003),
                ("no JSON", text("hello"), 1008), ("no object", text("[1]"), 1008),
                ("cut object", text(#"{"type":"PI"#), 1008),
            ]
            for (name, bytes, code) in cases {
                let watcher = try gateway.watch("a1")
                _ = try watcher.next()
                try watcher.socket.send(bytes)
                guard case .close(let received, _)? = try watcher.socket.next() else {
                    Issue.record("\(name): no close frame")
                    continue
                }
                #expect(received == code, "\(name)")
                try watcher.socket.send(WebSocketClient.closeFrame(code))
                #expect(
                    try watcher.socket.next() == .end,
                    "\(name): the connection ends after the handshake of closing")
            }
            try checkBystander()
        }

        @Test("an unknown message type is answered by ERROR, and the watcher goes on")
        func unknownTypes() throws {
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            for text in [#"{"type":"DANCE"}"#, #"{"type":5}"#, "{}", #"{"t":1}"#] {
                try watcher.socket.send(text: text)
                let answer = try watcher.next()
                #expect(
                    answer.type == "ERROR" && answer.json["error"] is String
                        && answer.json["message"] is String)
            }
            try watcher.socket.send(text: #"{"type":"PING","t":{"any":["thing",1.50]}}"#)
            let pong = try watcher.next()
            #expect(pong.type == "PONG" && pong.text.contains(#""t":{"any":["thing",1.50]},"server_time":""#))
            try redis.publish("a1", #"{"type":"X","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().type == "X")
        }

        @Test("an oversized message is refused with 1009 before all of it has arrived")
        func hugeMessage() throws {
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            try watcher.socket.send(WebSocketClient.frame(0x1, [UInt8](repeating: 65, count: 1 << 20)))
            guard case .close(let code, _)? = try watcher.socket.next() else {
                Issue.record("no close frame")
                return
            }
            #expect(code == 1_009)
            #expect(
                try watcher.socket.next() == .end,
                "an end, not a reset, which other systems let overtake the frame")
            try checkBystander()
        }

        @Test("requests of a client that reads no answers wait outside the gateway")
        func unreadAnswers() throws {
            let memory = try gateway.metric("gavelcast_resident_bytes")
            let socket = try BlockingSocket(port: gateway.port, receiveBufferBytes: 4_096)
            let request = "GET /gavelcast.js HTTP/1.1\r\nHost: a\r\n\r\n"
            try socket.send(Array(String(repeating: request, count: 1_700).utf8))
            try eventually("its socket is full") { try gateway.metric("gavelcast_backlogs") == 1 }
            // All the answers would be 16 MB, the requests one read of the socket.
            #expect(try gateway.metric("gavelcast_resident_bytes") < memory + 4_000_000)
            try checkBystander()
        }

        @Test("a close frame is answered in kind, and frames sent with the handshake are read")
        func closing() throws {
            let frames =
                WebSocketClient.frame(0x1, Array(#"{"type":"PING","t":7}"#.utf8))
                + WebSocketClient.frame(0x9, Array("hi".utf8)) + WebSocketClient.closeFrame(4_321)
            let socket = try WebSocketClient(
                port: gateway.port, path: "/v1/auctions/a1/live", firstFrames: frames)
            var received: [WebSocketClient.Message] = []
            while received.last != .end { received.append(try #require(try socket.next())) }
            #expect(received.contains(.pong(Array("hi".utf8))))
            #expect(received.contains(.close(code: 4_321, reason: "")))
            #expect(
                received.contains { if case .text(let text) = $0 { text.contains(#""t":7"#) } else { false } }
            )
        }

        @Test("an echo path returns what it gets, whole or in pieces, text or binary")
        func echo() throws {
            let socket = try WebSocketClient(port: gateway.port, path: "/echo")
            let large = [UInt8](repeating: 7, count: 1 << 20)
            try socket.send(WebSocketClient.frame(0x2, large))
            #expect(try socket.next() == .binary(large))
            try socket.send(WebSocketClient.frame(0x1, Array("a".utf8), isFinal: false))
            try socket.send(WebSocketClient.frame(0x9, [1]))
            try socket.send(WebSocketClient.frame(0x0, Array("b".utf8)))
            #expect(try socket.next() == .pong([1]))
            #expect(try socket.next() == .text("ab"))
        }

        @Test("a malformed event is counted by its reason and dropped; the next one arrives")
        func events() throws {
            let large =
                #"{"type":"A","auction_id":"bystander","seq":1,"x":""# + String(repeating: "y", count: 17_000)
                + "\"}"
            let bad = [
                "garbage", "[]", large, #"{"type":"A","auction_id":"other","seq":1}"#,
                #"{"auction_id":"bystander"}"#,
                #"{"type":"A","seq":"1"}"#,
            ]
            for event in bad { try redis.publish("bystander", event) }
            _ = try redis.client().call([
                Array("PUBLISH".utf8), Array("auction:bystander".utf8), [0x7B, 0xFF, 0x7D],
            ])
            try checkBystander()
            let text = try HTTPClient(port: gateway.adminPort).request("GET", "/metrics").text
            for (reason, count) in [
                ("too_large", 1), ("not_utf8", 1), ("not_json_object", 2), ("other_auction", 1),
                ("no_type", 1),
                ("bad_sequence", 1),
            ] {
                #expect(
                    text.contains("gavelcast_events_rejected_total{reason=\"\(reason)\"} \(count)\n"),
                    "\(reason)")
            }
        }

        @Test("1,000 connections that send nothing cost little, disturb nobody, and are closed")
        func silent() throws {
            let before = try gateway.metric("gavelcast_resident_bytes")
            let sockets = try (0..<1_000).map { _ in try BlockingSocket(port: gateway.port) }
            for socket in sockets.prefix(100) { try socket.send(Array("GET / HT".utf8)) }
            try eventually("all are open") { try gateway.metric("gavelcast_connections") >= 1_001 }
            // The address sanitizer keeps freed memory.
            if !Sanitizer.isOn {
                #expect(try gateway.metric("gavelcast_resident_bytes") - before < 4 << 20)
            }
            try checkBystander()
            // The time-out for a head is 10 s; who began one is told.
            try eventually("all are closed") { try gateway.metric("gavelcast_connections") <= 2 }
            #expect(try HTTPClient.readReply(sockets[0]).reply.status == 408)
            #expect(try sockets[999].receive(milliseconds: 5_000) == [])
            try checkBystander()
        }

        @Test("a peer that vanishes without a word is found by the heartbeat")
        func halfOpen() throws {
            let other = try GatewayProcess(redis: [redis.url], arguments: ["--heartbeat-seconds", "1"])
            let silent = try other.watch("a1")
            _ = try silent.next()
            let lively = try other.watch("a1")
            _ = try lively.next()
            // The silent one answers no ping; reading the lively one answers its pings.
            try eventually("only the lively one is left") {
                if case .ping(let payload)? = try lively.socket.next(milliseconds: 50) {
                    try lively.socket.send(WebSocketClient.frame(0xA, payload))
                }
                return try other.metric("gavelcast_connections") == 2
            }
            try redis.publish("a1", #"{"type":"X","auction_id":"a1","seq":1}"#)
            #expect(try lively.next().type == "X")
        }
    }
}
