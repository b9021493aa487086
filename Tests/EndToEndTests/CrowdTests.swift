import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What concerns a crowd is done a stretch at a time: nobody is skipped, and nobody gets anything twice.
    @Suite(.serialized) struct Crowds {
        private func event(_ sequence: Int) -> String {
            #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence)}"#
        }

        /// More than a stretch, and more than a turn.
        private static let size = 1_500

        private func crowd(
            _ gateway: GatewayProcess, _ count: Int, over transport: WatchTransport = .webSocket
        ) throws -> [Watcher] {
            let ports = gateway.ports
            let threads = 25
            return try together(threads) { _ in
                try (0..<count / threads).map { _ in
                    Carried(try Watcher(ports, auctionID: "a1", over: transport))
                }
            }.flatMap { $0.map(\.value) }
        }

        @Test("a crowd that waits is greeted while events come; each sees a state and then every event, once")
        func greeting() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            // Until Redis answers again, all of them wait.
            redis.signal(SIGSTOP)
            let waiting = try crowd(gateway, Self.size) + crowd(gateway, 100, over: .eventStream)
            redis.signal(SIGCONT)
            let client = try redis.client()
            for sequence in 1...200 {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event(sequence))
                _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":\#(sequence),"status":"active"}"#)
                try redis.publish("a1", event(sequence))
            }
            for watcher in waiting {
                try watcher.until { $0.sequence == 200 }
                try watcher.checkPromises()
            }
            // None of them is forgotten afterwards.
            try redis.publish("a1", event(201))
            for watcher in waiting { #expect(try watcher.next().sequence == 201) }
        }

        @Test("a jump reaches a whole crowd in the order of events, on every transport")
        func jump() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            var watchers = try crowd(gateway, Self.size)
            for transport in WatchTransport.allCases where transport.form != .longPoll {
                watchers.append(try gateway.watch("a1", over: transport))
            }
            for watcher in watchers { _ = try watcher.next() }
            let polls = try (0..<3).map { _ in try gateway.watch("a1", over: .longPoll, since: 0) }
            try redis.publish("a1", event(1))
            for poll in polls { #expect(try poll.next().sequence == 1) }
            let ports = gateway.ports
            let polled = Locked<[String]>([])
            let polling = DispatchGroup()
            DispatchQueue.global().async(group: polling) {
                let client = HTTPClient(port: ports.plain, timeoutMilliseconds: 30_000)
                let reply = try? client.request("GET", "/v1/auctions/a1/live?since=1&timeout=20")
                polled.with { $0 = [reply?.text ?? "no answer"] }
            }
            try eventually("the poll waits") {
                try HTTPClient(port: gateway.adminPort).request("GET", "/v1/stats").text.contains(
                    #""longpoll":1"#)
            }
            for sequence in 5...6 { try redis.publish("a1", event(sequence)) }
            for watcher in watchers {
                #expect(try watcher.next().sequence == 1)
                let jump = try watcher.next()
                #expect(
                    jump.type == "SNAPSHOT" && jump.sequence == 4 && jump.json["complete"] as? Bool == false)
                // A loop that is late merges them.
                try watcher.until { $0.sequence == 6 }
                try watcher.checkPromises()
            }
            polling.wait()
            let answer = polled.with { $0[0] }
            #expect(
                answer.contains(#""complete":false,"live":true,"events":[{"type":"SNAPSHOT""#), "\(answer)")
        }

        @Test("a disconnect is spread over the drain's length and says when to come back")
        func disconnect() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--drain-seconds", "3", "--workers", "1"])
            let watchers = try (0..<30).map { _ in try gateway.watch("a1") }
            let stream = try gateway.watch("a1", over: .eventStream)
            let other = try gateway.watch("a2")
            for watcher in watchers + [stream, other] { _ = try watcher.next() }
            let admin = HTTPClient(port: gateway.adminPort)
            #expect(try admin.request("POST", "/v1/disconnect?auction=a1").status == 200)
            func watching() throws -> Int {
                let connections = try admin.request("GET", "/v1/stats").json["connections"] as? [String: Any]
                return connections?["websocket"] as? Int ?? 0
            }
            // The first leaves long before the last.
            try eventually("some have left") { try watching() < 31 }
            #expect(try watching() > 5)
            for watcher in watchers {
                guard case .close(let code, let reason)? = try watcher.socket.next() else {
                    throw TimedOut(description: "it is not closed")
                }
                #expect(code == 1_012 && reason.contains("retry_after_ms"))
            }
            #expect(try gateway.watch("a1").next().type == "SNAPSHOT", "they may come back at once")
            try redis.publish("a2", #"{"type":"BID_UPDATE","auction_id":"a2","seq":1}"#)
            #expect(try other.next().sequence == 1)
        }

        @Test(
            "a disconnect ends one subscription of a connection with many, and leaves the others",
            arguments: [true, false])
        func disconnectSubscription(overWebSocket: Bool) throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let transport = overWebSocket ? WatchTransport.manyOverWebSocket : .manyOverEventStream
            let admin = HTTPClient(port: gateway.adminPort)
            if overWebSocket {
                let watcher = try gateway.watch("a1", over: transport)
                try watcher.socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"a2"}"#)
                for _ in 0..<2 { #expect(try watcher.next().type == "SNAPSHOT") }
                #expect(try admin.request("POST", "/v1/disconnect?auction=a2").status == 200)
                let end = try watcher.next()
                #expect(end.type == "UNSUBSCRIBED" && end.json["auction_id"] as? String == "a2")
                #expect(end.json["retry_after_ms"] is Int)
                try redis.publish("a1", event(1))
                #expect(try watcher.next().sequence == 1)
                try watcher.socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"a2"}"#)
                #expect(try watcher.next().type == "SNAPSHOT")
            } else {
                let stream = try EventStreamClient(port: gateway.port, path: "/v1/live?auctions=a1,a2")
                func next() throws -> EventStreamClient.Event? {
                    while let event = try stream.next(milliseconds: 10_000) {
                        if !event.isComment, event.retry == nil { return event }
                    }
                    return nil
                }
                for _ in 0..<2 { #expect(try next()?.type == "SNAPSHOT") }
                #expect(try admin.request("POST", "/v1/disconnect?auction=a2").status == 200)
                let end = try next()
                #expect(end?.type == "UNSUBSCRIBED" && end?.id == nil)
                try redis.publish("a1", event(1))
                #expect(try next()?.type == "BID_UPDATE")
            }
        }

        @Test("a busy auction keeps its history although idle ones have filled the budget")
        func history() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--history-bytes", "65536"])
            func publish(_ auction: String, _ sequence: Int) throws {
                let filler = String(repeating: "x", count: 200)
                try redis.publish(
                    auction,
                    #"{"type":"BID_UPDATE","auction_id":"\#(auction)","seq":\#(sequence),"x":"\#(filler)"}"#)
            }
            for number in 0..<40 {
                let watcher = try gateway.watch("idle\(number)")
                _ = try watcher.next()
                for sequence in 1...10 { try publish("idle\(number)", sequence) }
                try watcher.until { $0.sequence == 10 }
            }
            let busy = try gateway.watch("busy")
            _ = try busy.next()
            for sequence in 1...50 { try publish("busy", sequence) }
            try busy.until { $0.sequence == 50 }
            let reads = try gateway.metric("gavelcast_log_reads_total")
            let back = try gateway.watch("busy", since: 5)
            #expect(try back.next().type == "RESUMED")
            for sequence in 6...50 { #expect(try back.next().sequence == sequence) }
            #expect(try gateway.metric("gavelcast_log_reads_total") == reads)
            #expect(try gateway.metric("gavelcast_history_bytes") <= 65_536)
        }

        @Test(
            "a drain answers and does not reset clients that are in the accept queue or in the middle of a head"
        )
        func drainServesWhatHasArrived() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--drain-seconds", "2", "--workers", "1"])
            let request =
                "GET /v1/auctions/a1/live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            let slow = try BlockingSocket(port: gateway.port)
            try slow.send(Array(request.utf8.prefix(40)))
            // Seen, and therefore kept.
            try eventually("the slow one is accepted") { try gateway.metric("gavelcast_connections") >= 1 }
            gateway.process.kill(SIGSTOP)
            let queued = try (0..<300).map { index in
                let socket = try BlockingSocket(port: gateway.port)
                if index % 2 == 0 { try socket.send(Array(request.utf8)) }
                return socket
            }
            gateway.process.kill(SIGTERM)
            gateway.process.kill(SIGCONT)
            for (index, socket) in queued.enumerated() where index % 2 == 0 {
                let (head, _) = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
                #expect(head.status == 101 || head.status == 503)
            }
            try slow.send(Array(request.utf8.dropFirst(40)))
            let (head, _) = try HTTPClient.readHead(slow, timeoutMilliseconds: 10_000)
            #expect(head.status == 101 || head.status == 503)
            for (index, socket) in queued.enumerated() where index % 2 == 1 {
                try socket.send(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
                let (head, _) = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
                #expect(head.status == 200 || head.status == 503 && head.fields["retry-after"] != nil)
            }
            #expect(gateway.process.waitForExit() == 0, "\(gateway.process.log)")
        }

        @Test("while it leaves, a gateway answers requests, and tells new watchers when to come back")
        func drainAnswersNewcomers() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--drain-seconds", "5"])
            // Holds the drain up.
            let watchers = try (0..<20).map { _ in try gateway.watch("a1") }
            for watcher in watchers { _ = try watcher.next() }
            gateway.process.kill(SIGTERM)
            try eventually("it is leaving, and answers") {
                let reply = try gateway.get("/v1/time")
                #expect(reply.status == 200)
                return reply.fields["connection"] == "close"
            }
            let socket = try WebSocketClient(port: gateway.port, path: "/v1/auctions/a1/live")
            guard case .close(let code, let reason)? = try socket.next() else {
                throw TimedOut(description: "it is not told")
            }
            #expect(code == 1_001 && reason.contains("retry_after_ms"))
            let stream = try EventStreamClient(port: gateway.port, path: "/v1/auctions/a1/live")
            var type = ""
            while type != "CLOSE", let event = try stream.next(milliseconds: 5_000) { type = event.type }
            #expect(type == "CLOSE")
            #expect(gateway.process.waitForExit() == 0)
        }
    }
}
