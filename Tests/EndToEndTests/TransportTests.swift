import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// The same watch over every transport.
    @Suite(.serialized) struct Transports {
        let redis: RedisServer
        let gateway: GatewayProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url])
        }

        private func event(_ sequence: Int, type: String = "BID_UPDATE", auction: String = "a1") -> String {
            #"{"type":"\#(type)","auction_id":"\#(auction)","seq":\#(sequence),"note":"é \#(sequence)"}"#
        }

        private func publish(_ range: ClosedRange<Int>, on auction: String = "a1") throws {
            for sequence in range { try redis.publish(auction, event(sequence, auction: auction)) }
        }

        private func store(_ state: String, on auction: String = "a1") throws {
            _ = try redis.client().call("SET", RedisKeys.state(auction), state)
        }

        private func poll(_ query: String, fields: [String: String] = [:]) throws -> HTTPReply {
            try gateway.get("/v1/auctions/a1/live\(query)", fields: fields)
        }

        @Test(
            "every transport begins with the state and then shows each event",
            arguments: WatchTransport.allCases)
        func watches(_ transport: WatchTransport) throws {
            try store(#"{"seq":0,"title":"t","status":"active"}"#)
            let watcher = try gateway.watch("a1", over: transport)
            let first = try watcher.next()
            #expect(
                first.type == "SNAPSHOT" && first.state?["title"] as? String == "t" && first.sequence == 0)
            for sequence in 1...20 {
                try publish(sequence...sequence)
                let message = try watcher.next()
                #expect(message.sequence == sequence && message.json["note"] as? String == "é \(sequence)")
            }
            // What has no sequence number reaches whoever is there; between two polls nobody is.
            if transport.form != .longPoll {
                try redis.publish("a1", #"{"type":"NOTE","auction_id":"a1"}"#)
                #expect(try watcher.next().type == "NOTE")
            }
            try publish(21...21)
            #expect(try watcher.next().sequence == 21)
            try watcher.checkPromises()
        }

        @Test("a client may change transport in mid-auction and neither misses nor sees twice")
        func changesTransport() throws {
            let keeper = try gateway.watch("a1")
            _ = try keeper.next()
            var cursor = 0
            var seen: [Int] = []
            var published = 0
            for round in 0..<4 {
                for transport in WatchTransport.allCases {
                    try publish(published + 1...published + 5)
                    published += 5
                    try keeper.until { $0.sequence == published }
                    let watcher = try gateway.watch("a1", over: transport, since: cursor)
                    if transport.form != .longPoll {
                        let first = try watcher.next()
                        #expect(
                            first.type == "RESUMED" && first.json["replayed"] as? Int == published - cursor)
                    }
                    // Leaves in the middle of the replay in some rounds.
                    for _ in 0..<(round % 2 == 0 ? 3 : published - cursor) {
                        seen.append(try watcher.next().sequence)
                    }
                    cursor = try #require(watcher.cursor)
                    watcher.close()
                }
            }
            #expect(seen == Array(1...cursor) && cursor > 30)
        }

        @Test("an event stream: retry first, then event, data on one line and id; the head forbids caching")
        func streamFormat() throws {
            _ = try redis.client().call("SET", RedisKeys.state("a1"), "{\"seq\":0,\n\"status\":\"active\"}")
            let stream = try EventStreamClient(port: gateway.port, path: "/v1/auctions/a1/live")
            #expect(stream.reply.status == 200)
            #expect(stream.reply.fields["content-type"] == "text/event-stream")
            #expect(stream.reply.fields["cache-control"] == "no-store")
            #expect(stream.reply.fields["x-accel-buffering"] == "no")
            #expect(try #require(try stream.next()?.retry) >= 1_000)
            let first = try #require(try stream.next())
            #expect(first.type == "SNAPSHOT" && first.id == "0" && first.data.contains(#""status":"active""#))
            try redis.publish("a1", "{\"type\":\"GIFT\",\r\n \"seq\":1}")
            let gift = try #require(try stream.next())
            #expect(gift.type == "GIFT" && gift.id == "1" && gift.data == "{\"type\":\"GIFT\",   \"seq\":1}")
        }

        @Test("an event stream and a WebSocket are kept alive; a stream's heartbeat is a comment")
        func heartbeat() throws {
            let quick = try GatewayProcess(redis: [redis.url], arguments: ["--heartbeat-seconds", "1"])
            let stream = try EventStreamClient(port: quick.port, path: "/v1/auctions/a1/live")
            var comments = 0
            while comments < 2 {
                if try #require(try stream.next(milliseconds: 20_000)).isComment { comments += 1 }
            }
            let many = try WebSocketClient(port: quick.port, path: "/v1/live")
            #expect(try many.next() == .ping([]))
        }

        @Test("a long-poll answers at once when there is something, and empty when its time is over")
        func longPoll() throws {
            let first = try poll("").json
            #expect(first["seq"] as? Int == 0 && first["complete"] as? Bool == true)
            #expect((first["events"] as? [[String: Any]])?.first?["type"] as? String == "SNAPSHOT")
            let keeper = try gateway.watch("a1")
            _ = try keeper.next()
            try publish(1...3)
            try keeper.until { $0.sequence == 3 }
            let replay = try poll("?since=1").json
            #expect((replay["events"] as? [[String: Any]])?.compactMap { $0["seq"] as? Int } == [2, 3])
            #expect(replay["seq"] as? Int == 3 && replay["complete"] as? Bool == true)
            let empty = try poll("?since=3&timeout=0").json
            #expect(empty["seq"] as? Int == 3 && (empty["events"] as? [Any])?.isEmpty == true)
            let ahead = try poll("?since=9").json
            #expect(ahead["complete"] as? Bool == false && ahead["seq"] as? Int == 3)
            #expect((ahead["events"] as? [[String: Any]])?.first?["complete"] as? Bool == false)
            #expect(try poll("?since=3&timeout=x").status == 400)
        }

        @Test("an end that only the state knows of is not the end for a client that has not seen it")
        func endOnItsWay() throws {
            let one = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            let keeper = try one.watch("a1")
            _ = try keeper.next()
            try publish(1...1)
            _ = try keeper.next()
            try store(#"{"seq":2,"status":"sold"}"#)
            #expect(try one.watch("a1").next().state?["status"] as? String == "sold")
            let stream = try one.watch("a1", over: .eventStream, since: 1)
            #expect(try stream.next().type == "RESUMED")
            let poll = try one.get("/v1/auctions/a1/live?since=1&timeout=1").json
            #expect(poll["ended"] == nil && poll["seq"] as? Int == 1)
            try redis.publish("a1", event(2, type: "AUCTION_ENDED"))
            for watcher in [keeper, stream] { #expect(try watcher.next().type == "AUCTION_ENDED") }
            #expect(try one.get("/v1/auctions/a1/live?since=2").json["ended"] as? Bool == true)
        }

        @Test("one connection carries poll after poll, also those sent ahead")
        func pipelinedPolls() throws {
            try publishStored(5)
            let socket = try BlockingSocket(port: gateway.port)
            let head = "Host: h\r\n\r\n"
            try socket.send(Array("GET /v1/auctions/a1/live?since=3 HTTP/1.1\r\n\(head)".utf8))
            #expect(try HTTPClient.readReply(socket).reply.json["seq"] as? Int == 5)
            // The first one waits; the two behind it are answered after it, in their order.
            try socket.send(
                Array(
                    ("GET /v1/auctions/a1/live?since=5 HTTP/1.1\r\n\(head)"
                        + "GET /v1/auctions/a1/live?since=2 HTTP/1.1\r\n\(head)").utf8))
            try socket.send(Array("GET /nothing HTTP/1.1\r\nConnection: close\r\n\(head)".utf8))
            try eventually("the poll waits") {
                try gateway.get("/gavelcast.js").status == 200 && pollsWaiting() == 1
            }
            try redis.publish("a1", event(6))
            var bytes: [UInt8] = []
            while let more = try socket.receive(milliseconds: 10_000), !more.isEmpty { bytes += more }
            let text = String(decoding: bytes, as: UTF8.self)
            let order = [
                #""seq":6,"complete":true,"live":true,"events":[{"type":"BID_UPDATE","auction_id":"a1","seq":6"#,
                #""seq":6,"complete":true,"live":true,"events":[{"type":"BID_UPDATE","auction_id":"a1","seq":3"#,
                "NOT_FOUND",
            ]
            .map { text.firstRange(of: $0)?.lowerBound }
            #expect(
                order.allSatisfy { $0 != nil } && order.compactMap { $0 } == order.compactMap { $0 }.sorted())
        }

        private func publishStored(_ count: Int) throws {
            let client = try redis.client()
            for sequence in 1...count {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event(sequence))
            }
            try store(#"{"seq":\#(count),"status":"active"}"#)
        }

        private func pollsWaiting() throws -> Int {
            let text = try HTTPClient(port: gateway.adminPort).request("GET", "/metrics").text
            return text.contains("transport=\"longpoll\"} 1\n") ? 1 : 0
        }

        @Test("HTTP/1.0 clients get streams and polls without chunks")
        func http10() throws {
            for accept in ["text/event-stream", "*/*"] {
                let socket = try BlockingSocket(port: gateway.port)
                try socket.send(Array("GET /v1/auctions/a1/live HTTP/1.0\r\nAccept: \(accept)\r\n\r\n".utf8))
                let (head, _) = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
                #expect(head.status == 200 && head.fields["transfer-encoding"] == nil)
                #expect(head.fields["connection"] == "close")
            }
        }

        @Test("HEAD and OPTIONS are answered, other methods are not, and origins are told what they may read")
        func methodsAndOrigins() throws {
            let open = try GatewayProcess(
                redis: [redis.url], arguments: ["--origins", "https://shop.example"])
            let client = HTTPClient(port: open.port)
            let origin = ["Origin": "https://shop.example"]
            let path = "/v1/auctions/a1/live"
            let preflight = try client.request("OPTIONS", path, fields: origin)
            #expect(preflight.status == 204)
            #expect(preflight.fields["access-control-allow-origin"] == "https://shop.example")
            #expect(preflight.fields["access-control-allow-methods"]?.contains("GET") == true)
            #expect(preflight.fields["access-control-allow-headers"]?.contains("Last-Event-ID") == true)
            let head = try client.request("HEAD", path, fields: ["Accept": "text/event-stream"])
            #expect(head.status == 200 && head.fields["content-type"] == "text/event-stream")
            #expect(try client.request("DELETE", path).status == 405)
            #expect(try client.request("POST", "/v1/live").status == 405)
            let poll = try client.request("GET", path, fields: origin)
            #expect(
                poll.status == 200 && poll.fields["access-control-allow-origin"] == "https://shop.example")
            let refused = try client.request("GET", path, fields: ["Origin": "https://evil.example"])
            #expect(refused.status == 403 && refused.fields["access-control-allow-origin"] == nil)
            let bad = try client.request("GET", path + "?since=x", fields: origin)
            #expect(bad.status == 400 && bad.fields["access-control-allow-origin"] != nil)
            let stream = try EventStreamClient(port: open.port, path: path, fields: origin)
            #expect(stream.reply.fields["access-control-allow-origin"] == "https://shop.example")
        }

        @Test(
            "a stream is asked for by its media type only",
            arguments: [
                ("text/event-stream", true), ("TEXT/Event-Stream; charset=utf-8", true),
                ("text/html, text/event-stream;q=0.5", true), ("text/event-stream;q=0, */*", false),
                ("*/*", false), ("application/json", false),
            ])
        func negotiation(_ accept: String, _ isStream: Bool) throws {
            let socket = try BlockingSocket(port: gateway.port)
            try socket.send(
                Array("GET /v1/auctions/a1/live HTTP/1.1\r\nHost: h\r\nAccept: \(accept)\r\n\r\n".utf8))
            let head = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000).head
            #expect(head.fields["content-type"] == (isStream ? "text/event-stream" : "application/json"))
        }

        @Test("a full gateway tells a stream by an event, because browsers do not come back after a 503")
        func fullForStreams() throws {
            let full = try GatewayProcess(redis: [redis.url], arguments: ["--max-connections", "1"])
            let kept = try full.watch("a1")
            _ = try kept.next()
            let stream = try EventStreamClient(port: full.port, path: "/v1/auctions/a1/live")
            #expect(stream.reply.status == 200)
            var close: EventStreamClient.Event?
            var retry: Int?
            while close == nil, let event = try stream.next() {
                retry = event.retry ?? retry
                if event.type == "CLOSE" { close = event }
            }
            let said = try Received(try #require(close).data).json
            #expect(said["code"] as? Int == 1_013 && said["retry_after_ms"] as? Int == retry)
            let poll = try HTTPClient(port: full.port).request("GET", "/v1/auctions/a1/live")
            #expect(poll.status == 503 && poll.fields["retry-after"] != nil)
        }

        @Test("a drain tells streams by an event and polls by 503")
        func drain() throws {
            let leaving = try GatewayProcess(redis: [redis.url])
            let stream = try leaving.watch("a1", over: .eventStream)
            let many = try [WatchTransport.manyOverWebSocket, .manyOverEventStream].map {
                try leaving.watch("a1", over: $0)
            }
            for watcher in [stream] + many { _ = try watcher.next() }
            let port = leaving.port
            let polled = Locked<HTTPReply?>(nil)
            let isDone = DispatchSemaphore(value: 0)
            Thread {
                let reply = try? HTTPClient(port: port, timeoutMilliseconds: 30_000).request(
                    "GET", "/v1/auctions/a1/live?since=0")
                polled.with { $0 = reply }
                isDone.signal()
            }.start()
            try eventually("the poll waits") {
                try HTTPClient(port: leaving.adminPort).request("GET", "/v1/stats").text.contains(
                    #""longpoll":1"#)
            }
            leaving.process.kill(SIGTERM)
            let close = try stream.next()
            #expect(close.json["code"] as? Int == 1_001 && close.json["retry_after_ms"] != nil)
            #expect(try many[1].next().json["code"] as? Int == 1_001)
            guard case .close(let code, let reason)? = try many[0].socket.next() else {
                throw TimedOut(description: "no close frame")
            }
            #expect(code == 1_001 && reason.contains("retry_after_ms"))
            many[0].close()
            isDone.wait()
            let reply = try #require(polled.with { $0 })
            #expect(reply.status == 503 && reply.fields["retry-after"] != nil)
            #expect(leaving.process.waitForExit() == 0)
        }
    }
}
