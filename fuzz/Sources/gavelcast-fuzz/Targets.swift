// The fuzz targets: the parsers of what strangers send. Each feeds its parser the input whole and cut
// in two, and traps where the results contradict each other.

import AuctionEvents
import Compression
import RedisLink
import Tokens
import Wire

// SAFETY: libFuzzer keeps the bytes for the length of the call; they are copied. Its own main, which is in
// the library but is not used, names this function.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    FuzzTargets.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}

enum FuzzTargets {
    private typealias Target = @Sendable ([UInt8]) -> Void
    private static let targets: [String: Target] = [
        "head": head, "body": body, "frames": frames, "inflate": inflate, "extensions": extensions,
        "event": event,
        "token": token, "redis": redis, "proxy": proxy,
    ]
    // SAFETY: set once, before the first run, on the one thread there is.
    private nonisolated(unsafe) static var chosen: Target?

    static var names: [String] { targets.keys.sorted() }

    /// False when there is no such target.
    static func choose(_ name: String) -> Bool {
        chosen = targets[name]
        return chosen != nil
    }

    static func run(_ input: [UInt8]) {
        chosen?(input)
    }

    @Sendable private static func head(_ input: [UInt8]) {
        let whole = RequestHead.parse(input.span)
        guard case .complete(let head, let consumed) = whole else { return }
        precondition(consumed <= input.count && input[..<consumed].suffix(4) == [13, 10, 13, 10])
        for range in [head.path, head.query, head.host, head.origin, head.authorization, head.lastEventID] {
            precondition(range.range.upperBound <= consumed)
            _ = input.span.text(range)
        }
        _ = QueryString.value("since", in: input.span.text(head.query))
        // No proper prefix of a head is one.
        let prefix = Array(input[..<(consumed - 1)])
        guard case .incomplete = RequestHead.parse(prefix.span) else {
            preconditionFailure("a prefix was read")
        }
    }

    /// Reads as connections do: never more than was asked for.
    @Sendable private static func proxy(_ input: [UInt8]) {
        var header: [UInt8] = []
        while case .incomplete(let needed) = ProxyHeader.read(header) {
            precondition(needed > header.count && needed <= ProxyHeader.maximumBytes)
            guard needed <= input.count else { return }
            header = Array(input.prefix(needed))
        }
        guard case .complete(let client) = ProxyHeader.read(header) else { return }
        precondition(client.map { $0.count == 4 || $0.count == 16 } ?? true)
        // Cut anywhere, it is incomplete.
        for count in header.indices {
            guard case .incomplete(let needed) = ProxyHeader.read(Array(header.prefix(count))) else {
                preconditionFailure("a prefix was read")
            }
            precondition(needed <= header.count)
        }
    }

    @Sendable private static func body(_ input: [UInt8]) {
        let text = Array("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(text.span) else { preconditionFailure() }
        func read(_ pieces: [[UInt8]]) -> [UInt8]? {
            guard var body = RequestBody(head, maximumBytes: 10_000) else { return nil }
            for piece in pieces {
                switch body.take(piece.span) {
                case .more(let consumed): precondition(consumed == piece.count)
                case .complete: return body.bytes
                case .malformed, .tooLarge: return nil
                }
            }
            return nil
        }
        precondition(read([input]) == read(cut(input)))
    }

    @Sendable private static func frames(_ input: [UInt8]) {
        func read(_ pieces: [[UInt8]]) -> [String] {
            let rules = WebSocketDecoder.Rules(maximumMessageBytes: 4_096, allowsCompression: true)
            var decoder = WebSocketDecoder()
            var buffer: [UInt8] = []
            var found: [String] = []
            for piece in pieces {
                buffer += piece
                var position = 0
                reading: while position < buffer.count {
                    let start = position
                    switch buffer.withUnsafeMutableBytes({ decoder.next(in: $0, from: start, rules) }) {
                    case .incomplete: break reading
                    case .part(let consumed): position += consumed
                    case .message(let kind, let payload, let consumed):
                        found.append("\(kind) \(Array(buffer[payload]))")
                        position += consumed
                    case .assembled(let kind, let payload, let consumed):
                        found.append("\(kind) \(payload)")
                        position += consumed
                    case .ping(let payload, let consumed):
                        found.append("ping \(Array(buffer[payload]))")
                        position += consumed
                    case .pong(let consumed):
                        found.append("pong")
                        position += consumed
                    case .close(let code, _): return found + ["close \(code ?? 0)"]
                    case .violation(let code): return found + ["violation \(code)"]
                    }
                }
                buffer.removeFirst(position)
            }
            return found
        }
        precondition(read([input]) == read(cut(input)))
    }

    @Sendable private static func inflate(_ input: [UInt8]) {
        let inflater = MessageInflater()
        guard case .message(let message) = inflater.expand(input, maximumBytes: 65_536) else { return }
        precondition(message.count <= 65_536)
        let again = MessageDeflater().compress(message)
        precondition(inflater.expand(again, maximumBytes: message.count) == .message(message))
    }

    @Sendable private static func extensions(_ input: [UInt8]) {
        guard let agreed = MessageCompression(offers: input.span, 0..<input.count) else { return }
        precondition((9...15).contains(agreed.serverWindowBits))
    }

    @Sendable private static func event(_ input: [UInt8]) {
        for auctionID in ["a1", nil] {
            guard case .success(let envelope) = EventEnvelope.scan(input.span, auctionID: auctionID) else {
                continue
            }
            precondition(!envelope.type.isEmpty && envelope.sequence <= UInt64.maximumSequence)
        }
    }

    @Sendable private static func token(_ input: [UInt8]) {
        guard let key = try? TokenKey(keyID: "k", secret: [UInt8](repeating: 1, count: 32)) else { return }
        let text = String(decoding: input, as: UTF8.self)
        let isAccepted = (try? AccessToken.verify(text, with: TokenKeys([key]), now: 0)) != nil
        precondition(!isAccepted, "an unsigned token was accepted")
        _ = try? TokenKeys(json: input)
    }

    @Sendable private static func redis(_ input: [UInt8]) {
        let codec = RedisCodec()
        do {
            for piece in cut(input) {
                try piece.withUnsafeBytes { try codec.feed($0) }
                while try codec.next({ precondition(RedisReply($0) == RedisReply($0)) }) {}
            }
        } catch {}
    }

    /// The input in two parts; its first byte tells where they meet.
    private static func cut(_ input: [UInt8]) -> [[UInt8]] {
        guard let first = input.first else { return [input] }
        let place = Int(first) % input.count
        return [Array(input[..<place]), Array(input[place...])]
    }
}
