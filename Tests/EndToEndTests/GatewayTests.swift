import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// The gateway with a publisher of the test's own.
    @Suite(.serialized) struct Gateway {
        private func event(_ sequence: Int, type: String = "BID_UPDATE", auction: String = "a1") -> String {
            #"{"type":"\#(type)","auction_id":"\#(auction)","seq":\#(sequence),"note":"é \#(sequence)"}"#
        }

        /// Writes state and log as a publisher does, without the PUBLISH.
        private func store(_ redis: RedisServer, upTo sequence: Int, logFrom: Int = 1) throws {
            let client = try redis.client()
            _ = try client.call("DEL", RedisKeys.log("a1"))
            for number in stride(from: logFrom, through: sequence, by: 1) {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(number)-0", "e", event(number))
            }
            _ = try client.call(
                "SET", RedisKeys.state("a1"), #"{"title":"t","seq":\#(sequence),"status":"active"}"#)
        }

        @Test("events arrive byte for byte, repeats are dropped, disorder is put right")
        func order() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            let snapshot = try watcher.next()
            #expect(
                snapshot.sequence == 0 && snapshot.json["state"] is NSNull
                    && snapshot.json["complete"] as? Bool == true)
            for sequence in [1, 2, 2, 1, 5, 4, 3, 5, 6] { try redis.publish("a1", event(sequence)) }
            for sequence in 1...6 { #expect(try watcher.next().text == event(sequence)) }
            #expect(try gateway.metric("gavelcast_duplicates_total") >= 3)
            try redis.publish("a1", #"{"type":"NOTE","auction_id":"a1"}"#)
            #expect(
                try watcher.next().text == #"{"type":"NOTE","auction_id":"a1"}"#,
                "without seq it is passed on")
            let late = try gateway.watch("a1").next()
            #expect(late.sequence == 6 && late.json["state"] is NSNull, "nothing stored: the last one seen")
        }

        @Test("a gap is filled from Redis' log")
        func holeFilled() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            try redis.publish("a1", event(1))
            try store(redis, upTo: 4)
            try redis.publish("a1", event(5))
            for sequence in 1...5 { #expect(try watcher.next().text == event(sequence)) }
            #expect(try gateway.metric("gavelcast_gaps_filled_total") == 1)
        }

        @Test("a gap that nothing fills becomes one declared jump, with what was held behind it")
        func holeGivenUp() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            try redis.publish("a1", event(1))
            _ = try watcher.next()
            for sequence in [4, 5] { try redis.publish("a1", event(sequence)) }
            let jump = try watcher.next()
            #expect(jump.type == "SNAPSHOT" && jump.json["complete"] as? Bool == false && jump.sequence == 3)
            #expect(try watcher.next().sequence == 4 && watcher.next().sequence == 5)
            try watcher.checkPromises()
        }

        @Test("the snapshot shows Redis' state without its seq, and joiners share one read")
        func snapshots() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            try store(redis, upTo: 7)
            let ports = gateway.ports
            let firsts = try together(50) { _ in try Watcher(ports, auctionID: "a1").next().text }
            for text in firsts {
                #expect(
                    text.hasPrefix(
                        #"{"type":"SNAPSHOT","auction_id":"a1","seq":7,"complete":true,"server_time":""#))
                #expect(text.hasSuffix(#","state":{"title":"t","status":"active"}}"#))
            }
            #expect(try gateway.metric("gavelcast_state_reads_total") < 10)
        }

        @Test("a state that is written after the first watcher came, without an event, is shown to the next")
        func lateState() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let early = try gateway.watch("a1")
            #expect(try early.next().json["state"] is NSNull)
            _ = try redis.client().call("SET", RedisKeys.state("a1"), #"{"seq":0,"title":"new"}"#)
            #expect(try gateway.watch("a1").next().state?["title"] as? String == "new")
        }

        @Test("a channel is subscribed for the first watcher and kept for a while after the last")
        func subscription() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let client = try redis.client()
            func subscribers(_ auction: String) throws -> Int64? {
                try client.call("PUBSUB", "NUMSUB", "auction:\(auction)").array?[1].integer
            }
            #expect(try subscribers("a1") == 0)
            var watchers = [try gateway.watch("a1"), try gateway.watch("empty")]
            for watcher in watchers { _ = try watcher.next() }
            #expect(try subscribers("a1") == 1)
            try redis.publish("a1", event(1))
            _ = try watchers[0].next()
            watchers.removeAll()
            try eventually("the auction that never had anything is left") { try subscribers("empty") == 0 }
            #expect(try subscribers("a1") == 1, "the other one lingers")
            try redis.publish("a1", event(2))
            #expect(try gateway.watch("a1").next().sequence == 2)
        }

        @Test(
            "a watcher that stops reading costs bounded memory and gets the newest price next, with the jump declared"
        )
        func slowWatcher() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--send-buffer-bytes", "8192"])
            let slow = try gateway.watch("a1", receiveBufferBytes: 4_096)
            let fast = try gateway.watch("a1")
            _ = try fast.next()
            let client = try redis.client()
            let filler = String(repeating: "x", count: 1_000)
            for sequence in 1...1_000 {
                let type = sequence % 100 == 0 ? "TIME_EXTENDED" : "BID_UPDATE"
                _ = try client.call(
                    "PUBLISH", "auction:a1",
                    #"{"type":"\#(type)","auction_id":"a1","seq":\#(sequence),"filler":"\#(filler)"}"#)
                #expect(try fast.next().sequence == sequence)
            }
            try eventually("bids were merged") { try gateway.metric("gavelcast_conflated_total") > 500 }
            #expect(try gateway.metric("gavelcast_backlogs") == 1)
            try slow.until { $0.sequence == 1_000 }
            try slow.checkPromises()
            try fast.checkPromises()
            #expect(
                slow.messages.filter { $0.type == "TIME_EXTENDED" }.map(\.sequence)
                    == (1...10).map { $0 * 100 })
            #expect(slow.messages.count < 500 && fast.messages.count == 1_001)
            #expect(try gateway.metric("gavelcast_backlogs") == 0)
        }

        @Test(
            "a gateway that is behind merges before it walks; every watcher is told, and lossless events come through"
        )
        func behind() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            let ports = gateway.ports
            let watchers = try (0..<1_500).map { _ in try Watcher(ports, auctionID: "a1") }
            for watcher in watchers { _ = try watcher.next() }
            // All at once, and so large that a walk carries two of them: more than is sent within 50 ms.
            let filler = String(repeating: "x", count: 8_000)
            let commands = (1...400).map { sequence in
                let isLossless = sequence % 80 == 0
                let json =
                    isLossless
                    ? event(sequence, type: "TIME_EXTENDED")
                    : #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence),"note":"\#(filler)"}"#
                return ["PUBLISH", "auction:a1", json].map { Array($0.utf8) }
            }
            _ = try redis.client().pipeline(commands)
            for watcher in watchers {
                try watcher.until { $0.sequence == 400 }
                try watcher.checkPromises()
                let lossless = watcher.messages.filter { $0.type == "TIME_EXTENDED" }.map(\.sequence)
                #expect(lossless == [80, 160, 240, 320, 400])
            }
            #expect(try gateway.metric("gavelcast_conflated_total") > 100)
            #expect(watchers[0].messages.count < 200)
        }

        @Test(
            "while a window is open bids merge; a lossless event does not wait for its end",
            arguments: [true, false])
        func window(_ endsByLossless: Bool) throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--conflate-ms", "1000"])
            let watchers = try WatchTransport.allCases.filter { $0.form != .longPoll }.map {
                try gateway.watch("a1", over: $0)
            }
            for watcher in watchers { _ = try watcher.next() }
            let client = try redis.client()
            let commands = (1...9).map { sequence in
                let type = sequence == 9 && endsByLossless ? "TIME_EXTENDED" : "BID_UPDATE"
                return ["PUBLISH", "auction:a1", event(sequence, type: type)].map { Array($0.utf8) }
            }
            _ = try client.pipeline(commands)
            for watcher in watchers {
                #expect(try watcher.next().text == event(1), "the first one does not wait")
                let merged = try watcher.next()
                #expect(merged.json["from_seq"] as? Int == 2 && merged.sequence == (endsByLossless ? 8 : 9))
                if endsByLossless { #expect(try watcher.next().text == event(9, type: "TIME_EXTENDED")) }
            }
            try redis.publish("a1", event(10))
            for watcher in watchers {
                #expect(try watcher.next().sequence == 10)
                try watcher.checkPromises()
            }
        }

        @Test("who joins while bids are merging is given only what it has not seen")
        func joinsInWindow() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--conflate-ms", "2500", "--workers", "1"])
            let early = try gateway.watch("a1")
            _ = try early.next()
            try redis.publish("a1", event(1))
            #expect(try early.next().sequence == 1)
            for sequence in 2...3 { try redis.publish("a1", event(sequence)) }
            let watchers = try WatchTransport.allCases.map { try gateway.watch("a1", over: $0, since: 3) }
            for watcher in watchers where watcher.transport.form != .longPoll {
                #expect(try watcher.next().type == "RESUMED")
            }
            for sequence in 4...5 { try redis.publish("a1", event(sequence)) }
            let merged = try early.next()
            #expect(merged.json["from_seq"] as? Int == 2 && merged.sequence == 5)
            for watcher in watchers {
                let rest = try watcher.next()
                if watcher.transport.form != .longPoll { #expect(rest.json["from_seq"] as? Int == 4) }
                while watcher.cursor != 5 { _ = try watcher.next() }
                try watcher.checkPromises(since: 3)
            }
        }

        @Test("nobody is told a sequence number without the state or the events that led to it")
        func firstEvents() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let client = try redis.client()
            for index in 0..<150 {
                let auction = "a\(index)"
                let watcher = try gateway.watch(auction)
                let commands = [
                    ["MULTI"], ["SET", RedisKeys.state(auction), #"{"seq":1,"status":"active"}"#],
                    ["PUBLISH", RedisKeys.channel(auction), event(1, auction: auction)], ["EXEC"],
                ]
                _ = try client.pipeline(commands.map { $0.map { Array($0.utf8) } })
                let first = try watcher.next()
                #expect(first.sequence == (first.state == nil ? 0 : 1), "\(first.text)")
                if first.sequence == 0 { #expect(try watcher.next().sequence == 1) }
            }
        }

        @Test("a joiner waits for a state that Redis lost, until it is written again")
        func lostState() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--history-events", "4"])
            try store(redis, upTo: 0)
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            for sequence in 1...10 { try redis.publish("a1", event(sequence)) }
            try watcher.until { $0.sequence == 10 }
            redis.kill()
            try redis.start()
            try eventually("the link is back") { try gateway.isOK("/readyz") }
            let reads = try gateway.metric("gavelcast_state_reads_total")
            let joiner = try gateway.watch("a1")
            try eventually("it was looked for") {
                try gateway.metric("gavelcast_state_reads_total") > reads + 1
            }
            _ = try redis.client().call("SET", RedisKeys.state("a1"), #"{"title":"back","seq":10}"#)
            let first = try joiner.next()
            #expect(first.sequence == 10 && first.state?["title"] as? String == "back")
        }

        @Test("what pub/sub lost with the link is there after the reconnect, without a further event")
        func reconnectCompares() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            try store(redis, upTo: 3)
            _ = try redis.client().call("CLIENT", "KILL", "TYPE", "pubsub")
            for sequence in 1...3 { #expect(try watcher.next().text == event(sequence)) }
        }

        @Test(
            "a watcher that takes nothing for too long is closed with 4008",
            arguments: [WatchTransport.webSocket, .eventStream, .manyOverWebSocket])
        func tooSlow(_ transport: WatchTransport) throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: ["--slow-deadline-seconds", "1", "--send-buffer-bytes", "4608"])
            let slow = try gateway.watch("a1", over: transport, receiveBufferBytes: 2_304)
            _ = try slow.next()
            let client = try redis.client()
            let filler = String(repeating: "x", count: 4_000)
            for sequence in 1...40 {
                _ = try client.call(
                    "PUBLISH", "auction:a1",
                    #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence),"f":"\#(filler)"}"#)
            }
            try eventually("it is closed") { try gateway.metric("gavelcast_slow_closes_total") == 1 }
            if transport == .eventStream {
                return #expect(try slow.until { $0.json["code"] != nil }.json["code"] as? Int == 4_008)
            }
            var last: WebSocketClient.Message?
            while let message = try slow.socket.next(), message != .end { last = message }
            guard case .close(let code, _)? = last else {
                Issue.record("no close frame but \(String(describing: last))")
                return
            }
            #expect(code == 4_008)
        }

        @Test("several Redis servers: each auction on its own, and one that is down leaves the others alone")
        func severalServers() throws {
            let servers = [try RedisServer(), try RedisServer()]
            let gateway = try GatewayProcess(redis: servers.map(\.url))
            let auctions = (0..<20).map { "a\($0)" }
            let watchers = try auctions.map { try gateway.watch($0) }
            for watcher in watchers { _ = try watcher.next() }
            for (auction, watcher) in zip(auctions, watchers) {
                try servers[RedisKeys.server(of: auction, count: 2)].publish(
                    auction, event(1, auction: auction))
                #expect(try watcher.next().sequence == 1)
            }
            servers[0].kill()
            for (auction, watcher) in zip(auctions, watchers)
            where RedisKeys.server(of: auction, count: 2) == 1 {
                try servers[1].publish(auction, event(2, auction: auction))
                #expect(try watcher.next().sequence == 2)
            }
            #expect(try gateway.isOK("/readyz"), "one server still delivers")
        }

        @Test("connects and disconnects leave nothing behind")
        func leavesNothing() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let ports = gateway.ports
            func churn() throws {
                _ = try together(8) { thread in
                    for round in 0..<200 {
                        let watcher = try Watcher(ports, auctionID: "a\((thread + round) % 5)")
                        if round % 2 == 0 { _ = try watcher.next() }
                        watcher.socket.close()
                    }
                }
                try eventually("all are gone") { try gateway.metric("gavelcast_connections") == 1 }
            }
            try churn()
            let before = try gateway.metric("gavelcast_resident_bytes")
            try churn()
            // The address sanitizer keeps freed memory.
            if !Sanitizer.isOn {
                #expect(try gateway.metric("gavelcast_resident_bytes") - before < 2 << 20)
            }
            let text = try HTTPClient(port: gateway.adminPort).request("GET", "/metrics").text
            #expect(text.contains("gavelcast_watchers{transport=\"websocket\"} 0\n"))
            #expect(try gateway.metric("gavelcast_backlogs") == 0)
        }

        @Test("SIGTERM tells each watcher when to come back, refuses new ones, and exits 0")
        func drain() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watchers = try (0..<20).map { _ in try gateway.watch("a1") }
            for watcher in watchers { _ = try watcher.next() }
            // Asked twice, as by a hook and then the orchestrator.
            _ = try HTTPClient(port: gateway.adminPort).request("POST", "/v1/drain")
            gateway.process.kill(SIGTERM)
            for watcher in watchers {
                guard case .close(let code, let reason)? = try watcher.socket.next() else {
                    Issue.record("no close frame")
                    continue
                }
                #expect(code == 1_001 && reason.hasPrefix(#"{"retry_after_ms":"#))
                try watcher.socket.send(WebSocketClient.closeFrame(1_001))
            }
            #expect(gateway.process.waitForExit() == 0, "\(gateway.process.log)")
        }

        @Test("a full gateway says so: 1013 to WebSockets, 503 to requests; who leaves makes room")
        func overCapacity() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--max-connections", "3"])
            // The health checks' connections come and go; these two stay.
            var kept: [Watcher] = try (0..<3).map { _ in try gateway.watch("a1") }
            for watcher in kept { _ = try watcher.next() }
            let refused = try WebSocketClient(port: gateway.port, path: "/v1/auctions/a1/live")
            guard case .close(let code, let reason)? = try refused.next() else {
                Issue.record("no close frame")
                return
            }
            #expect(code == 1_013 && reason.contains("retry_after_ms"))
            let reply = try gateway.get("/")
            #expect(reply.status == 503 && reply.fields["retry-after"] != nil)
            refused.close()
            kept.removeLast().socket.close()
            try eventually("there is room again") {
                (try? gateway.watch("a1").next().type) == "SNAPSHOT"
            }
        }

        @Test("the admin listener reports, disconnects, and is not for browsers")
        func admin() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let admin = HTTPClient(port: gateway.adminPort)
            let watcher = try gateway.watch("a1")
            let other = try gateway.watch("a2")
            _ = try (watcher.next(), other.next())
            let stats = try admin.request("GET", "/v1/stats").json
            #expect(
                (stats["connections"] as? [String: Any])?["websocket"] as? Int == 2
                    && stats["auctions"] as? Int == 2)
            #expect(try admin.request("GET", "/metrics", fields: ["Origin": "http://a"]).status == 403)
            #expect(try admin.request("GET", "/v1/drain").status == 405)
            #expect(try admin.request("GET", "/nothing").status == 404)
            #expect(try admin.request("POST", "/v1/disconnect?auction=a1").status == 200)
            guard case .close(let code, _)? = try watcher.socket.next() else {
                Issue.record("no close frame")
                return
            }
            #expect(code == 1_012)
            try redis.publish("a2", event(1, auction: "a2"))
            #expect(try other.next().sequence == 1, "the other auction's watchers stay")
        }

        @Test("the viewer page and the client library are served with their types")
        func pages() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--bid-api-url", "http://127.0.0.1:1234"])
            let html = try gateway.get("/").text
            let assets = html.matches(of: /(?:href|src)="(\/assets\/\w+\/[\w.]+)"/).map { String($0.1) }
            #expect(assets.count == 2, "a style sheet and a script")
            let scripts = assets.map { ($0, $0.hasSuffix(".css") ? "text/css" : "text/javascript") }
            for (path, type) in scripts + [
                ("/", "text/html"), ("/a/some-lot_1", "text/html"), ("/wall", "text/html"),
                ("/gavelcast.js", "text/javascript"), ("/gavelcast.d.ts", "application/typescript"),
            ] {
                let reply = try gateway.get(path)
                #expect(reply.status == 200 && reply.fields["content-type"]?.hasPrefix(type) == true)
                #expect(!reply.body.isEmpty)
                let head = try HTTPClient(port: gateway.port).request("HEAD", path)
                #expect(head.fields["content-length"] == "\(reply.body.count)" && head.body.isEmpty)
            }
            #expect(try gateway.get("/config.json").json["bid_api_url"] as? String == "http://127.0.0.1:1234")
        }
    }
}
