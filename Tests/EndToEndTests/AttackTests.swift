import Foundation
import Histogram
import LoadClient
import LoadEngine
import LoadRun
import LocalServers
import RedisLink
import Synchronization
import Testing
import TransportSecurity

extension EndToEndTests {
    /// Clients that mean harm, each kind while 100 ordinary watchers get events: none of these misses one.
    /// With GAVELCAST_FIGURES the attacks are larger and what the watchers feel of them is printed.
    @Suite(.serialized) struct Attacks {
        private static let measures = ProcessInfo.processInfo.environment["GAVELCAST_FIGURES"] != nil

        @Test("whatever some do, the other watchers see every event", arguments: Attack.allCases)
        func attack(_ attack: Attack) throws {
            let redis = try RedisServer()
            let keys = Guardian.shared.folder + "/\(UUID().uuidString).json"
            // The public key of RFC 7515, appendix A.3: ES256 costs the most to check.
            try #"""
            {"keys":[{"kty":"EC","kid":"k","alg":"ES256","crv":"P-256",
            "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}
            """#.write(toFile: keys, atomically: true, encoding: .utf8)
            // A flood makes an instrumented loop's turn take seconds.
            let patience = Sanitizer.isOn ? "10" : "2"
            let gateway = try GatewayProcess(
                redis: [redis.url],
                arguments: [
                    "--token-keys", keys, "--slow-deadline-seconds", patience, "--head-seconds", patience,
                    "--handshake-seconds", patience,
                ])
            let crowd = try Crowd(plan(gateway))
            let source = EventSource(
                redis: try RedisURL(text: redis.url), auctions: ["calm"], fillerBytes: 1_000)
            defer {
                crowd.stop()
                source.stop()
            }
            _ = source.publish(PublishingPlan(rate: 50, events: 1))
            crowd.connect(100)
            try eventually("100 watch") { crowd.progress.connected.load(ordering: .relaxed) == 100 }
            let calm = try publish(source, crowd)
            let attackers = Attackers(attack, gateway.ports, isLarge: Self.measures)
            let attacked = try publish(source, crowd)
            attackers.stop()
            if Self.measures {
                print(
                    "FIGURE attack \(attack): \(attackers.done) times; p99 of 100 watchers \(calm / 1_000) ms calm, "
                        + "\(attacked / 1_000) ms attacked")
            }
            #expect(try gateway.metric("gavelcast_accepted_total") > 101, "the attack did not take place")
            if attack == .badTokens {
                #expect(try gateway.metric("gavelcast_tokens_refused_total") > 100)
            }
            var report = AuditReport()
            Audit.reconcile(
                crowd.accounts(), with: source.truth(), auctions: ["calm"], group: "calm", into: &report)
            #expect(report.faults.isEmpty && report.watches == 100 && report.declaredJumps == 0)
            #expect(gateway.process.isRunning)
            #expect(crowd.progress.reconnects.load(ordering: .relaxed) == 0)
            // What the attack left goes.
            try eventually("only the watchers are left", within: 40) {
                try gateway.metric("gavelcast_connections") <= 101
            }
        }

        /// Watchers that cost the most: over TLS, with compressed messages.
        private func plan(_ gateway: GatewayProcess) throws -> CrowdPlan {
            var plan = CrowdPlan(port: gateway.securePort, auctions: ["calm"], watchers: 100)
            plan.tls = gateway.ports.tls
            plan.deflates = true
            return plan
        }

        /// Publishes for a second and waits until every watcher has it all. Returns the p99 of latency in µs.
        private func publish(_ source: EventSource, _ crowd: Crowd) throws -> UInt64 {
            _ = crowd.collect()
            _ = source.publish(PublishingPlan(rate: 100, events: 100))
            let targets = source.truth().map(\.last)
            try eventually("everyone is at the last event", within: 60) {
                crowd.countBehind(targets).count == 0
            }
            return UInt64(crowd.collect().latency.valueAtPercentile(99))
        }
    }
}

enum Attack: CaseIterable, Sendable {
    case silence, slowHeads, slowReaders, garbage, hugeHeads, pathTricks, pings, endlessFragments, bombs,
        manyMessages
    case halfHandshakes, handshakes, cutTLS, badTokens, resets
}

/// Threads that attack until they are stopped.
private final class Attackers: Sendable {
    private let isOver = Locked(false)
    private let count = Locked(0)
    private let running = DispatchGroup()

    init(_ attack: Attack, _ ports: GatewayPorts, isLarge: Bool) {
        // Sanitizers slow the gateway down so much that more attackers would only saturate the processor.
        for _ in 0..<(isLarge ? 8 : Sanitizer.isOn ? 1 : 3) {
            running.enter()
            let thread = Thread { [self] in
                // For a figure their own work must not be what the watchers feel: it would be done elsewhere.
                if isLarge { setpriority(Int32(PRIO_PROCESS.rawValue), 0, 19) }
                var held: [BlockingSocket] = []
                while !isOver.with({ $0 }) {
                    do {
                        if let socket = try strike(attack, ports) { held.append(socket) }
                    } catch {
                        // It was cut off, as it should be.
                    }
                    count.with { $0 += 1 }
                    if held.count >= (isLarge ? 1_200 : 200) { held.removeFirst().close() }
                }
                running.leave()
            }
            thread.stackSize = 1 << 20
            thread.start()
        }
    }

    var done: Int { count.with { $0 } }

    func stop() {
        isOver.with { $0 = true }
        running.wait()
    }

    private static let live = "/v1/auctions/a1/live"
    private static let upgrade =
        "GET \(live) HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    private static let bomb = WebSocketClient.frame(
        0x1, WebSocketClient.deflate([UInt8](repeating: 0x30, count: 1_000_000)), reserved: 0x40)

    /// One blow. Returns a connection that is to be held open.
    private func strike(_ attack: Attack, _ ports: GatewayPorts) throws -> BlockingSocket? {
        func connect(_ port: Int? = nil) throws -> BlockingSocket {
            try BlockingSocket(port: port ?? ports.plain, receiveBufferBytes: 4_096, resetsOnClose: true)
        }
        /// Sends the same until the gateway has enough.
        func repeatUntilClosed(_ socket: BlockingSocket, _ bytes: [UInt8]) throws {
            for _ in 0..<1_000 where !isOver.with({ $0 }) {
                try socket.send(bytes)
                if try socket.receive(milliseconds: 0)?.isEmpty == true { return }
            }
        }
        func webSocket(_ then: [UInt8]) throws {
            let socket = try connect()
            try socket.send(Array(Self.upgrade.utf8))
            try repeatUntilClosed(socket, then)
        }
        switch attack {
        case .silence: return try connect()
        case .halfHandshakes:
            let socket = try connect(ports.secure)
            try socket.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03])
            return socket
        case .slowHeads:
            let socket = try connect()
            for byte in Array(Self.upgrade.utf8) {
                try socket.send([byte])
                _ = try socket.receive(milliseconds: 20)
                if isOver.with({ $0 }) { return nil }
            }
        case .slowReaders:
            let socket = try connect()
            let calm = Self.upgrade.replacing("a1", with: "calm").replacing("Extensions", with: "Nothing")
            try socket.send(Array(calm.utf8))
            return socket
        case .garbage:
            let socket = try connect(Bool.random() ? ports.secure : ports.plain)
            try repeatUntilClosed(socket, (0..<2_000).map { _ in UInt8.random(in: 0...255) })
        case .hugeHeads:
            let socket = try connect()
            try socket.send(Array("GET / HTTP/1.1\r\nHost: a\r\n".utf8))
            try repeatUntilClosed(socket, Array("X: \(String(repeating: "y", count: 1_000))\r\n".utf8))
        case .pathTricks:
            let paths = [
                "/v1/auctions/../../etc/passwd/live", "/v1/auctions/%2e%2e%2f/live", "//v1/live",
                "/v1/live/..;/",
                "/v1/auctions/a%00b/live", "/v1/auctions/\(String(repeating: "a", count: 3_000))/live",
                "/\\..\\",
                "/v1/auctions/a1/live?since=-1", "/v1/auctions/a1/live?since=99999999999999999999",
            ]
            let socket = try connect()
            for path in paths { try socket.send(Array("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)) }
            while let bytes = try socket.receive(milliseconds: 50), !bytes.isEmpty {}
        case .pings:
            try webSocket(
                [[UInt8]](repeating: WebSocketClient.frame(0x9, [1, 2, 3]), count: 100).flatMap { $0 })
        case .endlessFragments:
            let socket = try connect()
            try socket.send(Array(Self.upgrade.utf8) + WebSocketClient.frame(0x1, [], isFinal: false))
            let fragments = [[UInt8]](repeating: WebSocketClient.frame(0x0, [], isFinal: false), count: 100)
            try repeatUntilClosed(socket, fragments.flatMap { $0 })
        case .bombs: try webSocket(Self.bomb)
        case .manyMessages:
            let ping = WebSocketClient.frame(0x1, Array(#"{"type":"PING","t":[[[[[[1]]]]]]}"#.utf8))
            try webSocket([[UInt8]](repeating: ping, count: 50).flatMap { $0 })
        case .handshakes:
            try BlockingSocket(port: ports.secure, tls: ports.tls, resetsOnClose: true).close()
        case .cutTLS:
            let watcher = try Watcher(ports, auctionID: "a1", over: .secureWebSocket)
            _ = try watcher.next()
            watcher.close()
        case .badTokens:
            // The signature of RFC 7515, appendix A.3, over something else.
            let header = Data(#"{"alg":"ES256","kid":"k"}"#.utf8).base64EncodedString().replacing(
                "=", with: "")
            let signature =
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            let token = "\(header).\(header).\(signature)"
            let socket = try connect()
            let request = "GET \(Self.live)?token=\(token) HTTP/1.1\r\nHost: a\r\n\r\n"
            for _ in 0..<100 { try socket.send(Array(request.utf8)) }
            for _ in 0..<100 { if try socket.receive(milliseconds: 10)?.isEmpty ?? true { return nil } }
        case .resets:
            let socket = try connect()
            try socket.send(Array(Self.upgrade.utf8))
            socket.close()
        }
        return nil
    }
}
