import Fanout
import Glibc
import LiveProtocol
import Reactor
import TestSupport
import Testing
import Tokens
import Wire

@testable import Gateway

@Suite struct MovedConnectionTests {
    private static func bytes(_ generator: inout SeededGenerator) -> [UInt8] {
        let count = Int.random(in: 0...300, using: &generator)
        return (0..<count).map { _ in .random(in: 0...255, using: &generator) }
    }

    private static func watch(_ generator: inout SeededGenerator) -> MovedConnection.Watch {
        let number = UInt64.random(in: 0...1 << 53, using: &generator)
        return MovedConnection.Watch(
            topic: Bool.random(using: &generator) ? .auction("a\(number)") : .user("é \(number)"),
            cursor: number, knowsSilence: .random(using: &generator))
    }

    private static func access(_ generator: inout SeededGenerator) -> Access {
        let auctions: [AccessToken.Auctions] = [.none, .all, .listed([]), .listed(["a1", "prv_2"])]
        guard Bool.random(using: &generator) else { return .anonymous }
        return .bearer(
            AccessToken(
                subject: "u1", expiresAt: .random(in: 0...1 << 40, using: &generator),
                audience: Bool.random(using: &generator) ? "watch" : nil,
                auctions: auctions.randomElement(using: &generator)!))
    }

    private static func connection(_ generator: inout SeededGenerator) -> MovedConnection {
        let activity: MovedConnection.Activity
        var transport: Transport = .http
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: activity = .requests(isIdle: .random(using: &generator))
        case 1:
            activity = .watch(watch(&generator))
            transport = Bool.random(using: &generator) ? .webSocket : .eventStream
        default:
            let count = Int.random(in: 0...5, using: &generator)
            activity = .many((0..<count).map { _ in watch(&generator) }, access(&generator))
            transport = Bool.random(using: &generator) ? .webSocket : .eventStream
        }
        let kinds: [WebSocketDecoder.Kind] = [
            .text, .binary, .compressed(isText: true), .compressed(isText: false),
        ]
        let frame = WebSocketDecoder.Unfinished.Frame(
            isFinal: .random(using: &generator), remaining: .random(in: 1...70_000, using: &generator),
            key: .random(in: 0 ... .max, using: &generator))
        let message = WebSocketDecoder.Unfinished(
            kind: kinds.randomElement(using: &generator)!, bytes: bytes(&generator),
            frame: Bool.random(using: &generator) ? frame : nil)
        return MovedConnection(
            descriptor: .random(in: 3...1_000, using: &generator), transport: transport, activity: activity,
            deflateBits: .random(in: 0...15, using: &generator),
            heartbeatSeconds: .random(in: 0...60, using: &generator),
            expirySeconds: Bool.random(using: &generator) ? .random(in: 0...90_000, using: &generator) : nil,
            address: Bool.random(using: &generator) ? "2001:db8::1" : nil, input: bytes(&generator),
            message: Bool.random(using: &generator) ? message : nil, output: bytes(&generator))
    }

    @Test("connections survive a round trip; cut bytes are refused, and changed bytes never trap")
    func coding() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("moved connections: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let connections = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
                Self.connection(&generator)
            }
            let message = HandoverMessage.connections(connections)
            let bytes = message.bytes
            let read = try HandoverMessage(.init(bytes: bytes, descriptors: message.descriptors))
            // Sets have no order, so the values are compared.
            #expect(Self.text(read) == Self.text(message))
            if !message.descriptors.isEmpty {
                #expect(throws: HandoverMalformed.self) {
                    try HandoverMessage(
                        .init(bytes: bytes, descriptors: Array(message.descriptors.dropLast())))
                }
            }
            let cut = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator)))
            #expect(throws: HandoverMalformed.self) {
                try HandoverMessage(.init(bytes: cut, descriptors: message.descriptors))
            }
            var changed = bytes
            changed[Int.random(in: 0..<bytes.count, using: &generator)] ^= 0x81
            _ = try? HandoverMessage(.init(bytes: changed, descriptors: message.descriptors))
        }
    }

    private static func text(_ message: HandoverMessage) -> String {
        guard case .connections(let connections) = message else { return "" }
        return connections.map { connection in
            guard case .many(let watches, .bearer(let token)) = connection.activity,
                case .listed(let ids) = token.auctions
            else { return "\(connection)" }
            return "\(connection.descriptor) \(watches) \(token.subject) \(token.expiresAt) \(ids.sorted())"
        }.joined(separator: "\n")
    }

    @Test("the words of a hand-over are read again")
    func messages() throws {
        let listener = MovedListener(
            kind: .secure, configured: "*:443", actual: "[::]:443", descriptor: 7)
        let messages: [HandoverMessage] = [
            .hello(version: 3), .refusal("no"),
            .welcome([listener], [.auction("a1"), .user("u1")], connections: 9), .ready([.plain, .admin]),
            .taken, .done,
        ]
        for message in messages {
            let read = try HandoverMessage(
                .init(bytes: message.bytes, descriptors: message.descriptors))
            #expect("\(read)" == "\(message)")
        }
    }
}
