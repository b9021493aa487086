import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing
import Tokens

extension EndToEndTests {
    /// Limits on what one client, one address and all together may cost; and tokens that end.
    @Suite(.serialized) struct LimitsAndTokens {
        let redis: RedisServer
        private static let secret = [UInt8](repeating: 9, count: 32)

        init() throws {
            redis = try RedisServer()
        }

        private func keys(_ secrets: [String: [UInt8]]) -> String {
            let keys = secrets.map { name, secret in
                let encoded = Data(secret).base64EncodedString().replacing("=", with: "")
                    .replacing("+", with: "-").replacing("/", with: "_")
                return #"{"kty":"oct","kid":"\#(name)","alg":"HS256","k":"\#(encoded)"}"#
            }
            return #"{"keys":[\#(keys.joined(separator: ","))]}"#
        }

        private func token(_ key: TokenKey, seconds: Int) -> String {
            AccessToken(
                subject: "usr_1", expiresAt: Int(Date.now.timeIntervalSince1970) + seconds, audience: "watch",
                auctions: .all
            ).signed(with: key)
        }

        private func file(_ text: String) throws -> String {
            let path = Guardian.shared.folder + "/\(UUID().uuidString).json"
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            return path
        }

        private let live = "/v1/auctions/a1/live"

        // MARK: Addresses

        @Test("connections per address are limited; each transport reports the refusal in its own way")
        func addresses() throws {
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--max-connections-per-ip", "3"])
            var kept = try (0..<3).map { _ in try gateway.watch("a1") }
            for watcher in kept { _ = try watcher.next() }
            let socket = try WebSocketClient(port: gateway.port, path: live)
            #expect(socket.handshake.status == 429 && socket.handshake.fields["retry-after"] != nil)
            let stream = try EventStreamClient(port: gateway.port, path: live)
            #expect(stream.reply.status == 200)
            var event = try #require(try stream.next())
            while event.type != "CLOSE" { event = try #require(try stream.next()) }
            #expect(event.data.contains(#""code":1013"#) && event.data.contains("retry_after_ms"))
            #expect(try gateway.get("\(live)?since=0").status == 429)
            let page = try gateway.get("/")
            #expect(page.status == 429 && page.json["error"] as? String == "TOO_MANY_CONNECTIONS")
            #expect(try gateway.metric("gavelcast_refusals_total{reason=\"address\"}") >= 4)
            // A place that is given up may be taken.
            kept.removeLast().close()
            stream.close()
            try eventually("there is room again") { (try? gateway.get("/").status) == 200 }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            for watcher in kept { #expect(try watcher.next().sequence == 1) }
        }

        @Test("X-Forwarded-For from a trusted proxy names the client; from others it is ignored")
        func proxies() throws {
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: [
                    "--max-connections-per-ip", "1", "--trusted-proxies", "127.0.0.1", "--trusted-proxies",
                    "10.0.0.0/8",
                ])
            func status(_ forwarded: String, port: Int) throws -> (Int, WebSocketClient) {
                let client = try WebSocketClient(
                    port: port, path: live, fields: ["X-Forwarded-For": forwarded])
                return (client.handshake.status, client)
            }
            let (first, one) = try status("203.0.113.1", port: gateway.port)
            let (again, _) = try status("6.6.6.6, 203.0.113.1, 10.0.0.9", port: gateway.port)
            let (other, two) = try status("203.0.113.2", port: gateway.port)
            let (network, three) = try status("2001:db8::1", port: gateway.port)
            let (same, _) = try status("2001:db8::2", port: gateway.port)
            let statuses: [Int] = [first, again, other, network, same]
            #expect(statuses.map(String.init) == ["101", "429", "101", "101", "429"])
            // Several lines are one list, as proxies write it that add a line of their own.
            let lines = try BlockingSocket(port: gateway.port)
            try lines.send(
                Array(
                    ("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\n"
                        + "X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-For: \r\n\r\n").utf8))
            #expect(try HTTPClient.readReply(lines).reply.status == 429)
            let distrusting = try GatewayProcess(
                redis: [redis.url], arguments: ["--max-connections-per-ip", "1"])
            let (mine, four) = try status("203.0.113.1", port: distrusting.port)
            let (second, _) = try status("203.0.113.2", port: distrusting.port)
            #expect(mine == 101 && second == 429)
            for client in [one, two, three, four] { #expect(try client.next() != .end) }
        }

        // MARK: Talk

        @Test("a client that floods with messages, pings or empty fragments is closed with 1008")
        func floods() throws {
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--messages-per-second", "10"])
            let bystander = try gateway.watch("a1")
            _ = try bystander.next()
            let ping = WebSocketClient.frame(0x9, [])
            let pong = WebSocketClient.frame(0xA, [])
            let message = WebSocketClient.frame(0x1, Array(#"{"type":"PING"}"#.utf8))
            let first = WebSocketClient.frame(0x1, [], isFinal: false)
            let fragment = WebSocketClient.frame(0x0, [], isFinal: false)
            for flood in [
                [[UInt8]](repeating: ping, count: 400), Array(repeating: pong, count: 400),
                Array(repeating: message, count: 400), [first] + Array(repeating: fragment, count: 400),
            ] {
                let client = try WebSocketClient(port: gateway.port, path: live)
                _ = try client.next()
                try client.send(flood.flatMap { $0 })
                var last = try client.next()
                while case .text? = last { last = try client.next() }
                while case .pong? = last { last = try client.next() }
                #expect(last == .close(code: 1008, reason: "too many messages"))
            }
            #expect(try gateway.metric("gavelcast_refusals_total{reason=\"messages\"}") == 4)
            // Within the burst everything is answered.
            let modest = try WebSocketClient(port: gateway.port, path: live)
            _ = try modest.next()
            try modest.send((0..<90).flatMap { _ in message })
            for _ in 0..<90 {
                guard case .text? = try modest.next() else { throw TimedOut(description: "no PONG") }
            }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try bystander.next().sequence == 1)
        }

        @Test("messages, heads and subscriptions have the sizes that are set")
        func sizes() throws {
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: [
                    "--max-message-bytes", "200", "--max-head-bytes", "600", "--max-subscriptions", "2",
                ])
            let client = try WebSocketClient(port: gateway.port, path: "/v1/live")
            for auction in ["a", "b"] {
                try client.send(text: #"{"type":"SUBSCRIBE","auction_id":"\#(auction)"}"#)
                _ = try client.next()
            }
            try client.send(text: #"{"type":"SUBSCRIBE","auction_id":"c"}"#)
            guard case .text(let refusal)? = try client.next() else {
                throw TimedOut(description: "no answer")
            }
            #expect(refusal.contains("TOO_MANY_SUBSCRIPTIONS") && refusal.contains("at most 2"))
            try client.send(text: String(repeating: " ", count: 201))
            #expect(try client.next() == .close(code: 1009, reason: ""))
            #expect(try gateway.get("/", fields: ["X": String(repeating: "y", count: 600)]).status == 431)
            #expect(try gateway.get("/").status == 200)
        }

        // MARK: All together

        @Test("above the memory ceiling new watchers are sent elsewhere and old ones stay")
        func memory() throws {
            let path = try file("max-memory-bytes: 1000000000000")
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--config", path])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            // Connections of before may not become watchers now, nor watch more.
            let many = try WebSocketClient(port: gateway.port, path: "/v1/live")
            try many.send(text: #"{"type":"SUBSCRIBE","auction_id":"a1"}"#)
            guard case .text? = try many.next() else { throw TimedOut(description: "not subscribed") }
            let kept = try BlockingSocket(port: gateway.port)
            try kept.send(Array("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
            #expect(try HTTPClient.readReply(kept).reply.status == 404)
            try "max-memory-bytes: 1000000".write(toFile: path, atomically: true, encoding: .utf8)
            gateway.process.kill(SIGHUP)
            try eventually("memory is over the ceiling") { try gateway.metric("gavelcast_over_memory") == 1 }
            let client = try WebSocketClient(port: gateway.port, path: live)
            guard case .close(let code, let reason)? = try client.next() else {
                throw TimedOut(description: "not closed")
            }
            #expect(code == 1013 && reason.contains("retry_after_ms"))
            #expect(try gateway.get("\(live)?since=0").status == 503)
            try kept.send(Array("GET \(live)?since=0 HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
            #expect(try HTTPClient.readReply(kept).reply.status == 503)
            try many.send(text: #"{"type":"SUBSCRIBE","auction_id":"a2"}"#)
            guard case .text(let refused)? = try many.next() else { throw TimedOut(description: "no answer") }
            #expect(refused.contains("OVER_CAPACITY") && refused.contains("a2"))
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
        }

        @Test("accepts are held to their rate; all get in, the fan-out goes on")
        func acceptRate() throws {
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--workers", "1", "--accepts-per-second", "50"])
            let ports = gateway.ports
            let watchers = try together(40) { _ in
                let watcher = try Watcher(ports, auctionID: "a1")
                _ = try watcher.next()
                return Carried(watcher)
            }
            #expect(try gateway.metric("gavelcast_accept_pauses_total") > 0)
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            for watcher in watchers { #expect(try watcher.value.next().sequence == 1) }
        }

        @Test("only connections count against the rate of accepts, not looks into an empty queue")
        func acceptTokens() throws {
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--workers", "1", "--accepts-per-second", "200"])
            for _ in 0..<15 { #expect(try gateway.get("/").status == 200) }
            #expect(try gateway.metric("gavelcast_accept_pauses_total") == 0)
        }

        @Test("without descriptors the gateway serves those it has, says so once, and recovers")
        func descriptors() throws {
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            let used = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(gateway.process.pid)/fd")
                .count
            func limit(_ count: Int) throws {
                let process = try ChildProcess(
                    "prlimit",
                    ["/usr/bin/prlimit", "--pid", "\(gateway.process.pid)", "--nofile=\(count):20000"])
                #expect(process.waitForExit() == 0)
            }
            try limit(used + 3)
            var sockets: [BlockingSocket] = []
            for _ in 0..<50 { sockets.append(try BlockingSocket(port: gateway.port)) }
            try eventually("accepting fails") {
                gateway.process.log.contains("connections cannot be accepted")
            }
            for sequence in 1...20 {
                try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence)}"#)
                #expect(try watcher.next().sequence == sequence)
            }
            for socket in sockets { socket.close() }
            try limit(20_000)
            try eventually("new watchers come in") { (try? gateway.watch("a1").next().type) == "SNAPSHOT" }
            let logged = gateway.process.log.split(separator: "\n").filter {
                $0.contains("cannot be accepted")
            }
            // Once a loop.
            #expect((1...2).contains(logged.count))
        }

        // MARK: Tokens

        @Test("a watch ends when its token expires, on every long-lived transport")
        func expiry() throws {
            let key = try TokenKey(keyID: "k", secret: Self.secret)
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--token-keys", try file(keys(["k": Self.secret]))])
            // Expired already, but within the leeway for clocks that disagree.
            let short = token(key, seconds: -3)
            let many = try WebSocketClient(port: gateway.port, path: "/v1/live?token=\(short)")
            let one = try WebSocketClient(port: gateway.port, path: "/v1/auctions/prv_a/live?token=\(short)")
            let user = try WebSocketClient(port: gateway.port, path: "/v1/users/me/live?token=\(short)")
            let stream = try EventStreamClient(
                port: gateway.port, path: "/v1/auctions/prv_a/live",
                fields: ["Authorization": "Bearer \(short)"])
            for client in [many, one, user] {
                var last = try client.next()
                while case .text? = last { last = try client.next() }
                #expect(last == .close(code: 1008, reason: "the token has expired"))
            }
            var event = try #require(try stream.next())
            while event.type != "CLOSE" { event = try #require(try stream.next()) }
            #expect(event.data.contains(#""code":1008"#))
            #expect(try gateway.metric("gavelcast_tokens_expired_total") == 4)
            let late = try WebSocketClient(
                port: gateway.port, path: "/v1/auctions/prv_a/live?token=\(token(key, seconds: -10))")
            #expect(late.handshake.status == 401)
            #expect(!gateway.process.log.contains(short), "a token was logged")
        }

        @Test("keys are changed by a reload: the new one counts at once, the old one no longer")
        func rotation() throws {
            let path = try file(keys(["old": Self.secret]))
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--token-keys", path, "--auth-required"])
            let next = [UInt8](repeating: 5, count: 32)
            let (oldKey, newKey) = (
                try TokenKey(keyID: "old", secret: Self.secret), try TokenKey(keyID: "new", secret: next)
            )
            func status(_ key: TokenKey) throws -> Int {
                try WebSocketClient(
                    port: gateway.port, path: live,
                    fields: ["Authorization": "Bearer \(token(key, seconds: 60))"]
                ).handshake.status
            }
            #expect(try status(oldKey) == 101)
            #expect(try status(newKey) == 401)
            try keys(["new": next]).write(toFile: path, atomically: true, encoding: .utf8)
            gateway.process.kill(SIGHUP)
            try eventually("the new key counts") { try status(newKey) == 101 }
            #expect(try status(oldKey) == 401)
        }

        @Test("a crowd's tokens are checked some at a time, and all in the end")
        func tokenCrowd() throws {
            let key = try TokenKey(keyID: "k", secret: Self.secret)
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: [
                    "--workers", "1", "--token-keys", try file(keys(["k": Self.secret])), "--auth-required",
                ])
            let head =
                "GET \(live) HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                + "Authorization: Bearer \(token(key, seconds: 60))\r\n"
            let sockets = try (0..<200).map { _ in try BlockingSocket(port: gateway.port) }
            // All but the end, so that the ends come together.
            for socket in sockets { try socket.send(Array(head.utf8)) }
            gateway.process.kill(SIGSTOP)
            for socket in sockets { try socket.send(Array("\r\n".utf8)) }
            gateway.process.kill(SIGCONT)
            for socket in sockets {
                #expect(try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000).head.status == 101)
            }
            #expect(try gateway.metric("gavelcast_tokens_deferred_total") > 0)
        }
    }
}
