import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing
import TransportSecurity

extension EndToEndTests {
    /// TLS and compression. That every promise holds over them too is shown by the tests of all transports.
    @Suite(.serialized) struct Security {
        let redis: RedisServer

        init() throws {
            redis = try RedisServer()
        }

        /// What `openssl s_client` says of a connection.
        private func sClient(_ gateway: GatewayProcess, _ arguments: [String]) throws -> String {
            let process = try ChildProcess(
                "s_client",
                ["/usr/bin/openssl", "s_client", "-connect", "127.0.0.1:\(gateway.securePort)"] + arguments)
            process.waitForExit()
            return process.log
        }

        @Test("TLS 1.2 and 1.3 are spoken, with HTTP/1.1 and nothing older or else")
        func versions() throws {
            let gateway = try GatewayProcess(redis: [redis.url])
            #expect(
                try sClient(gateway, ["-tls1_3", "-alpn", "h2,http/1.1"]).contains("ALPN protocol: http/1.1"))
            #expect(try sClient(gateway, ["-tls1_2"]).contains("Protocol  : TLSv1.2"))
            // At the lowest security level the client itself has nothing against it.
            let old = try sClient(gateway, ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])
            #expect(old.contains("alert protocol version"))
            #expect(try sClient(gateway, ["-alpn", "h2"]).contains("no application protocol"))
            // An old cipher, for the kind of key that the gateway has.
            let cbc = try sClient(gateway, ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"])
            #expect(cbc.contains("alert handshake failure"))
            #expect(try sClient(gateway, ["-tls1_2"]).contains("Secure Renegotiation IS supported"))
            #expect(try gateway.metric("gavelcast_tls_failures_total") == 3)
        }

        @Test("a client cannot make a connection negotiate its keys anew")
        func renegotiation() throws {
            let gateway = try GatewayProcess(redis: [redis.url])
            let pipe = Guardian.shared.folder + "/\(UUID().uuidString).pipe"
            // `R` asks for it. The pipe has no end, so the client stays until it is refused.
            let client = try ChildProcess(
                "s_client",
                [
                    "/bin/sh", "-c",
                    "mkfifo \(pipe) && exec 3<>\(pipe) && echo R >&3 && /usr/bin/timeout 20 /usr/bin/openssl "
                        + "s_client -tls1_2 -connect 127.0.0.1:\(gateway.securePort) <&3",
                ])
            client.waitForExit()
            #expect(client.log.contains("RENEGOTIATING") && client.log.contains("no renegotiation"))
            #expect(try gateway.metric("gavelcast_tls_handshakes_total") == 1)
        }

        @Test("the certificate is the one that names the host asked for; others get the first")
        func serverNames() throws {
            let first = try LocalCertificate()
            let second = try LocalCertificate(names: "DNS:b.example,DNS:*.c.example")
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: [
                    "--tls-cert", first.certificate, "--tls-key", first.key, "--tls-cert", second.certificate,
                    "--tls-key", second.key,
                ])
            func isVerified(_ name: String, by certificate: LocalCertificate) throws -> Bool {
                try sClient(gateway, ["-servername", name, "-CAfile", certificate.certificate])
                    .contains("Verify return code: 0 (ok)")
            }
            #expect(try isVerified("b.example", by: second) && isVerified("x.c.example", by: second))
            #expect(try isVerified("localhost", by: first) && isVerified("nobody.example", by: first))
            #expect(try !isVerified("b.example", by: first))
        }

        @Test("a TLS session of one gateway is resumed by another with the same ticket key")
        func tickets() throws {
            let base = Guardian.shared.folder + "/\(UUID().uuidString)"
            let key = base + ".ticket"
            try Data((0..<80).map { _ in UInt8.random(in: 0...255) }).write(to: URL(fileURLWithPath: key))
            let one = try GatewayProcess(redis: [redis.url], arguments: ["--tls-ticket-key", key])
            let two = try GatewayProcess(redis: [redis.url], arguments: ["--tls-ticket-key", key])
            let stranger = try GatewayProcess(redis: [redis.url])
            for version in ["-tls1_2", "-tls1_3"] {
                // A request makes the client stay until the ticket has come.
                let request = base + ".request"
                try "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".write(
                    toFile: request, atomically: true, encoding: .utf8)
                let session = base + version
                let saved = try ChildProcess(
                    "s_client",
                    [
                        "/bin/sh", "-c",
                        "/usr/bin/openssl s_client -ign_eof -connect 127.0.0.1:\(one.securePort) \(version) "
                            + "-sess_out \(session) < \(request)",
                    ])
                #expect(saved.waitForExit() == 0)
                let resumed = try sClient(two, [version, "-sess_in", session])
                #expect(resumed.contains("Reused, "), "\(resumed)")
                #expect(try sClient(stranger, [version, "-sess_in", session]).contains("New, "))
            }
            #expect(try two.metric("gavelcast_tls_resumed_total") == 2)
        }

        @Test("a reload changes the certificate for new connections and drops none")
        func reload() throws {
            let old = try LocalCertificate()
            let new = try LocalCertificate()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--tls-cert", old.certificate, "--tls-key", old.key])
            let watcher = try Watcher(
                GatewayPorts(plain: gateway.port, secure: gateway.securePort, tls: try old.client()),
                auctionID: "a1",
                over: .secureWebSocket)
            _ = try watcher.next()
            // A file that is wrong changes nothing.
            try "nonsense".write(toFile: old.key, atomically: true, encoding: .utf8)
            gateway.process.kill(SIGHUP)
            try eventually("the refusal is logged") {
                gateway.process.log.contains("settings were not reloaded")
            }
            let oldClient = try old.client()
            #expect((try? BlockingSocket(port: gateway.securePort, tls: oldClient)) != nil)
            for (from, to) in [(new.certificate, old.certificate), (new.key, old.key)] {
                let bytes = try Data(contentsOf: URL(fileURLWithPath: from))
                try bytes.write(to: URL(fileURLWithPath: to))
            }
            gateway.process.kill(SIGHUP)
            let client = try new.client()
            try eventually("the new certificate is shown") {
                (try? BlockingSocket(port: gateway.securePort, tls: client)) != nil
            }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
        }

        @Test("a reload cannot take the secure port away, nor open the echo beside auth-required")
        func reloadKeepsWhatStays() throws {
            let path = Guardian.shared.folder + "/\(UUID().uuidString).yml"
            let keys = try BidAPIProcess.sharedTokenKeys()
            let certificate = try LocalCertificate()
            let securePort = try Ports.free()
            let tls = """
                tls-listen: 127.0.0.1:\(securePort)
                tls-cert: [\(certificate.certificate)]
                tls-key: [\(certificate.key)]

                """
            try (tls + "echo-path: /echo\n").write(toFile: path, atomically: true, encoding: .utf8)
            let (port, adminPort) = (try Ports.free(), try Ports.free())
            let gateway = try ChildProcess(
                "gateway",
                [
                    Programs.path("gavelcast-gateway"), "--listen", "127.0.0.1:\(port)", "--admin-listen",
                    "127.0.0.1:\(adminPort)", "--redis-url", redis.url, "--token-keys", keys, "--config",
                    path,
                ])
            func isSecurePortOpen() throws -> Bool {
                let client = HTTPClient(port: securePort, tls: try certificate.client())
                return (try? client.request("GET", "/").status) == 200
            }
            try eventually("the secure port is open") { try isSecurePortOpen() }
            try "echo-path: /echo\nmessages-per-second: 7\n".write(
                toFile: path, atomically: true, encoding: .utf8)
            gateway.kill(SIGHUP)
            try eventually("it is said") { gateway.log.contains("need a restart") }
            #expect(gateway.log.contains("tls-listen"))
            #expect(try isSecurePortOpen())
            try "auth-required: true\n".write(toFile: path, atomically: true, encoding: .utf8)
            gateway.kill(SIGHUP)
            try eventually("it is refused") { gateway.log.contains("echo-path: is open to everybody") }
            #expect(
                try HTTPClient(port: port).request("GET", "/v1/auctions/a1/live").status == 200, "no token")
        }

        @Test("a client that breaks TLS or stays silent is closed, and the others do not notice")
        func brokenClients() throws {
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--handshake-seconds", "1"])
            let watcher = try gateway.watch("a1", over: .secureWebSocket)
            _ = try watcher.next()
            let silent = try BlockingSocket(port: gateway.securePort)
            let garbage = try BlockingSocket(port: gateway.securePort)
            try garbage.send([UInt8](repeating: 0x41, count: 500))
            let plain = try BlockingSocket(port: gateway.securePort)
            let fields = String(repeating: "X: \(String(repeating: "y", count: 1_000))\r\n", count: 100)
            try plain.send(Array("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n".utf8))
            var answer: [UInt8] = []
            // An end, not a reset, which elsewhere may overtake the answer.
            while let bytes = try plain.receive(milliseconds: 10_000), !bytes.isEmpty { answer += bytes }
            #expect(String(decoding: answer, as: UTF8.self).contains("TLS_REQUIRED"))
            // The beginning of a client's first record, and no more.
            let cut = try BlockingSocket(port: gateway.securePort)
            try cut.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
            for socket in [silent, garbage, cut] {
                // An alert may come before the end.
                while let bytes = try? socket.receive(milliseconds: 10_000), !bytes.isEmpty {}
            }
            // A connection cut in mid-watch without a word of TLS.
            for _ in 0..<20 {
                let gone = try Watcher(gateway.ports, auctionID: "a1", over: .secureWebSocket)
                _ = try gone.next()
                gone.close()
            }
            try eventually("all but one are gone") { try gateway.metric("gavelcast_connections") <= 2 }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
            #expect(try gateway.metric("gavelcast_tls_failures_total") >= 2)
            #expect(try gateway.metric("gavelcast_timeouts_total") >= 2)
        }

        @Test("events come compressed to those who asked, once they are worth it, whatever merges")
        func compression() throws {
            let gateway = try GatewayProcess(redis: [redis.url])
            let offers = ["Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"]
            let path = "/v1/auctions/a1/live"
            let deflated = try WebSocketClient(port: gateway.port, path: path, fields: offers)
            let secure = try WebSocketClient(
                port: gateway.securePort, path: path, tls: gateway.ports.tls, fields: offers)
            let plain = try WebSocketClient(port: gateway.port, path: path)
            // Its window is smaller than what events are compressed with.
            let small = try WebSocketClient(
                port: gateway.port, path: path,
                fields: ["Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"])
            let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            #expect(deflated.handshake.fields["sec-websocket-extensions"] == agreed)
            #expect(
                small.handshake.fields["sec-websocket-extensions"] == agreed + "; server_max_window_bits=9")
            #expect(plain.handshake.fields["sec-websocket-extensions"] == nil)
            let all = [deflated, secure, plain, small]
            for client in all { _ = try client.next() }
            let before = deflated.compressedMessages
            let event =
                #"{"type":"NOTE","auction_id":"a1","seq":1,"text":"\#(String(repeating: "again ", count: 200))"}"#
            try redis.publish("a1", event)
            let short = #"{"type":"NOTE","auction_id":"a1","seq":2}"#
            try redis.publish("a1", short)
            for client in all {
                #expect(try client.next() == .text(event))
                #expect(try client.next() == .text(short))
            }
            #expect(deflated.compressedMessages == before + 1 && secure.compressedMessages == before + 1)
            #expect(plain.compressedMessages == 0 && small.compressedMessages == 0)
            let off = try GatewayProcess(redis: [redis.url], arguments: ["--deflate", "false"])
            let refused = try WebSocketClient(port: off.port, path: path, fields: offers)
            #expect(refused.handshake.fields["sec-websocket-extensions"] == nil)
        }

        @Test("gateway and bid API use Redis over TLS, and only if its certificate is valid")
        func redisOverTLS() throws {
            let certificate = try LocalCertificate()
            let server = try RedisServer(certificate: certificate)
            let gateway = try GatewayProcess(redis: [server.secureURL])
            let bidAPI = try BidAPIProcess(database: try SharedPostgres.database(), redis: [server.secureURL])
            let auctionID = try bidAPI.user("seller").createAuction(
                #"{"title":"lot","starting_price":1,"bid_increment":1,"duration_seconds":600}"#)
            let watcher = try gateway.watch(auctionID)
            #expect(try watcher.next().state?["title"] as? String == "lot")
            #expect(try bidAPI.user("bidder").bid("100", on: auctionID).status == 201)
            #expect(try watcher.next().type == "BID_UPDATE")
            // The link is lost and made again.
            server.kill()
            try server.start()
            #expect(try bidAPI.user("other").bid("200", on: auctionID).status == 201)
            #expect(try watcher.next().json["current_price"] as? Int == 200)
            // Somebody else's certificate.
            let stranger = try LocalCertificate()
            let wrong = "rediss://127.0.0.1:\(server.securePort ?? 0)?ca=\(stranger.certificate)"
            let misled = try GatewayProcess(redis: [wrong], waitsUntilReady: false)
            try eventually("the certificate is refused") {
                misled.process.log.contains("certificate verify failed")
            }
            #expect(try HTTPClient(port: misled.adminPort).request("GET", "/readyz").status == 503)
        }

        @Test(
            "compressed messages of clients are read within the bound; bombs and nonsense close the connection"
        )
        func compressedInput() throws {
            let gateway = try GatewayProcess(redis: [redis.url])
            func answer(_ payload: [UInt8]) throws -> WebSocketClient.Message? {
                let client = try WebSocketClient(
                    port: gateway.port, path: "/v1/auctions/a1/live",
                    fields: ["Sec-WebSocket-Extensions": "permessage-deflate"])
                _ = try client.next()
                try client.send(WebSocketClient.frame(0x1, payload, reserved: 0x40))
                return try client.next()
            }
            func deflated(_ text: String) -> [UInt8] { WebSocketClient.deflate(Array(text.utf8)) }
            guard case .text(let pong)? = try answer(deflated(#"{"type":"PING","t":7}"#)) else {
                throw TimedOut(description: "no PONG")
            }
            #expect(pong.hasPrefix(#"{"type":"PONG","t":7,"#))
            let bomb = deflated(String(repeating: "0", count: 1_000_000))
            #expect(bomb.count < 4_096)
            #expect(try answer(bomb) == .close(code: 1009, reason: ""))
            #expect(try answer([0xFF, 0xFF, 0xFF]) == .close(code: 1007, reason: ""))
            #expect(try answer(WebSocketClient.deflate([0xFF, 0xFE])) == .close(code: 1007, reason: ""))
        }
    }
}
