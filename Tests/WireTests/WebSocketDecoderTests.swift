import LoadClient
import TestSupport
import Testing
import Wire

@Suite struct WebSocketDecoderTests {
    /// What a decoder makes of `bytes`, fed in pieces of the given sizes (the last one takes the rest).
    private func steps(
        _ bytes: [UInt8], pieces: [Int] = [], limit: Int = 4_096, allowsCompression: Bool = false,
        moves: Bool = false
    ) -> [String] {
        let rules = WebSocketDecoder.Rules(maximumMessageBytes: limit, allowsCompression: allowsCompression)
        var decoder = WebSocketDecoder()
        var buffer: [UInt8] = []
        var found: [String] = []
        var rest = bytes[...]
        for size in pieces + [bytes.count] {
            buffer += rest.prefix(size)
            rest = rest.dropFirst(size)
            if moves { decoder = WebSocketDecoder(decoder.unfinished) }
            var position = 0
            feeding: while position < buffer.count {
                let start = position
                let step = buffer.withUnsafeMutableBytes {
                    decoder.next(in: $0, from: start, rules)
                }
                switch step {
                case .incomplete: break feeding
                case .part(let consumed): position += consumed
                case .message(let kind, let payload, let consumed):
                    found.append(Self.name(kind) + String(decoding: buffer[payload], as: UTF8.self))
                    position += consumed
                case .assembled(let kind, let payload, let consumed):
                    found.append(Self.name(kind) + String(decoding: payload, as: UTF8.self))
                    position += consumed
                case .ping(let payload, let consumed):
                    found.append("ping " + String(decoding: buffer[payload], as: UTF8.self))
                    position += consumed
                case .pong(let consumed):
                    found.append("pong")
                    position += consumed
                case .close(let code, let consumed):
                    found.append("close \(code.map(String.init) ?? "-")")
                    position += consumed
                case .violation(let code): return found + ["violation \(code)"]
                }
            }
            buffer.removeFirst(position)
        }
        return found
    }

    private static func name(_ kind: WebSocketDecoder.Kind) -> String {
        switch kind {
        case .text: "text "
        case .binary: "binary "
        case .compressed(let isText): isText ? "compressed text " : "compressed binary "
        }
    }

    private func text(_ text: String, isFinal: Bool = true) -> [UInt8] {
        WebSocketClient.frame(0x1, Array(text.utf8), isFinal: isFinal)
    }

    @Test("a message that is over a limit lowered meanwhile is too big")
    func loweredLimit() {
        var decoder = WebSocketDecoder()
        var steps: [WebSocketDecoder.Step] = []
        for (limit, isFirst) in [(8_192, true), (4_096, false)] {
            var frame = WebSocketClient.frame(
                isFirst ? 0x1 : 0x0, [UInt8](repeating: 0x61, count: 5_000), isFinal: false)
            steps.append(
                frame.withUnsafeMutableBytes {
                    decoder.next(
                        in: $0, from: 0, .init(maximumMessageBytes: limit, allowsCompression: false))
                })
        }
        #expect(steps.last == .violation(code: 1_009))
    }

    @Test("the accept key is that of RFC 6455, section 1.3")
    func acceptKey() {
        // SHA-1 of the concatenation, as the section gives it.
        let digest: [UInt8] = [
            0xb3, 0x7a, 0x4f, 0x2c, 0xc0, 0x62, 0x4f, 0x16, 0x90, 0xf6, 0x46, 0x06, 0xcf, 0x38, 0x59, 0x45,
            0xb2, 0xbe,
            0xc4, 0xea,
        ]
        let key = WebSocketHandshake.acceptKey(for: "dGhlIHNhbXBsZSBub25jZQ==") { input in
            #expect(
                String(decoding: input, as: UTF8.self)
                    == "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
            return digest
        }
        #expect(key == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }

    @Test("the masked frames of RFC 6455, section 5.7, are read")
    func readsVectors() {
        #expect(steps([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]) == ["text Hello"])
        #expect(steps([0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]) == ["pong"])
    }

    @Test("the unmasked frames of RFC 6455, section 5.7, are written")
    func writesVectors() {
        #expect(
            WebSocketFrame.encode(.text, Array("Hello".utf8)) == [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        #expect(
            WebSocketFrame.encode(.ping, Array("Hello".utf8)) == [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
        #expect(
            WebSocketFrame.encode(.binary, [UInt8](repeating: 0, count: 256)).prefix(4) == [
                0x82, 0x7E, 0x01, 0x00,
            ])
        #expect(
            WebSocketFrame.encode(.binary, [UInt8](repeating: 0, count: 65_536)).prefix(10)
                == [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0])
        #expect(WebSocketFrame.close(1001, reason: String(repeating: "é", count: 100)).count <= 127)
    }

    @Test("a conversation split at each byte reads the same")
    func splitsAtEachByte() {
        let bytes =
            text("Hel", isFinal: false) + WebSocketClient.frame(0x9, Array("p".utf8))
            + WebSocketClient.frame(0x0, Array("lo ü".utf8)) + WebSocketClient.frame(0x2, Array("raw".utf8))
            + text(String(repeating: "x", count: 300)) + WebSocketClient.closeFrame(1000)
        let whole = steps(bytes)
        #expect(
            whole == [
                "ping p", "text Hello ü", "binary raw", "text " + String(repeating: "x", count: 300),
                "close 1000",
            ])
        for split in 1..<bytes.count {
            #expect(steps(bytes, pieces: [split]) == whole)
            #expect(steps(bytes, pieces: [split], moves: true) == whole, "another decoder goes on")
        }
        #expect(steps(bytes, pieces: [Int](repeating: 1, count: bytes.count - 1)) == whole)
    }

    @Test("a character split between two fragments is whole in the message")
    func joinsCharacters() {
        let euro = Array("€".utf8)
        let bytes =
            WebSocketClient.frame(0x1, [euro[0]], isFinal: false)
            + WebSocketClient.frame(0x0, Array(euro[1...]))
        #expect(steps(bytes) == ["text €"])
    }

    @Test("text is refused at its first wrong byte, however much of it is still to come")
    func failsFast() {
        // A frame of 100 bytes, of which five have come; the fifth can follow nothing.
        let whole = WebSocketClient.frame(
            0x1, Array("aü".utf8) + [0xE2, 0x28] + [UInt8](repeating: 0x61, count: 95))
        #expect(steps(Array(whole[..<(6 + 4)])) == [])
        #expect(steps(Array(whole[..<(6 + 5)])) == ["violation 1007"])
        // A surrogate, an overlong form, a number above U+10FFFF, and a message that stops within a
        // character.
        for bytes: [UInt8] in [[0xED, 0xA0], [0xE0, 0x80], [0xF4, 0x90], [0xC0, 0xAF], [0xF5]] {
            let frame = WebSocketClient.frame(0x1, bytes + [UInt8](repeating: 0x61, count: 60))
            #expect(steps(Array(frame[..<(6 + bytes.count)])) == ["violation 1007"], "\(bytes)")
        }
        #expect(
            steps(WebSocketClient.frame(0x1, [0xE2, 0x82], isFinal: false) + WebSocketClient.frame(0x0, []))
                == ["violation 1007"])
    }

    @Test("compressed messages are told apart where they were agreed on, and refused elsewhere")
    func compressedFrames() {
        let whole = WebSocketClient.frame(0x1, [1, 2], reserved: 0x40)
        let pieces =
            WebSocketClient.frame(0x2, [0xFF], isFinal: false, reserved: 0x40)
            + WebSocketClient.frame(0x9, []) + WebSocketClient.frame(0x0, [0x41])
        #expect(steps(whole, allowsCompression: true) == ["compressed text \u{1}\u{2}"])
        #expect(steps(pieces, allowsCompression: true) == ["ping ", "compressed binary \u{FFFD}A"])
        #expect(steps(whole) == ["violation 1002"])
        let continued =
            WebSocketClient.frame(0x1, [65], isFinal: false)
            + WebSocketClient.frame(0x0, [65], reserved: 0x40)
        #expect(steps(continued, allowsCompression: true) == ["violation 1002"])
        #expect(
            steps(WebSocketClient.frame(0x9, [], reserved: 0x40), allowsCompression: true)
                == ["violation 1002"])
        #expect(
            steps(WebSocketClient.frame(0x1, [65], reserved: 0x20), allowsCompression: true)
                == ["violation 1002"])
    }

    @Test("random conversations read the same however they are cut")
    func cutsAnywhere() {
        var generator = SeededGenerator.announced("frame cuts")
        for _ in 0..<300 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let characters = (0..<Int.random(in: 0...200, using: &generator)).map { _ in
                    "aü€😀".randomElement(using: &generator)!
                }
                var payload = Array(String(characters).utf8)[...]
                var isFirst = true
                repeat {
                    let part = payload.prefix(Int.random(in: 0...300, using: &generator))
                    payload = payload.dropFirst(part.count)
                    bytes += WebSocketClient.frame(isFirst ? 1 : 0, Array(part), isFinal: payload.isEmpty)
                    isFirst = false
                } while !payload.isEmpty
            }
            let pieces = (0..<200).map { _ in Int.random(in: 0...40, using: &generator) }
            #expect(steps(bytes, pieces: pieces) == steps(bytes))
        }
    }

    @Test("violations have their close codes")
    func refusesViolations() {
        let cases: [(String, [UInt8], Int)] = [
            ("unmasked", WebSocketClient.frame(0x1, [65], isMasked: false), 1002),
            ("reserved bit", WebSocketClient.frame(0x1, [65], reserved: 0x40), 1002),
            ("unknown opcode", WebSocketClient.frame(0x3, []), 1002),
            ("unknown control opcode", WebSocketClient.frame(0xB, []), 1002),
            ("continuation of nothing", WebSocketClient.frame(0x0, [65]), 1002),
            ("message within a message", text("a", isFinal: false) + text("b"), 1002),
            ("fragmented ping", WebSocketClient.frame(0x9, [], isFinal: false), 1002),
            ("long ping", WebSocketClient.frame(0x9, [UInt8](repeating: 0, count: 126)), 1002),
            ("overlong length", [0x81, 0xFE, 0, 5] + [0, 0, 0, 0] + Array("Hello".utf8), 1002),
            ("overlong 64-bit length", [0x81, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], 1002),
            ("negative length", [0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
            ("too big", [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], 1009),
            (
                "too big in pieces",
                WebSocketClient.frame(0x2, [UInt8](repeating: 0, count: 4_000), isFinal: false)
                    + WebSocketClient.frame(0x0, [UInt8](repeating: 0, count: 100)), 1009
            ),
            ("bad UTF-8", WebSocketClient.frame(0x1, [0xC3, 0x28]), 1007),
            ("bad UTF-8 in pieces", text("a", isFinal: false) + WebSocketClient.frame(0x0, [0xFF]), 1007),
            ("short close", WebSocketClient.frame(0x8, [3]), 1002),
            ("close code 1005", WebSocketClient.closeFrame(1005), 1002),
            ("close code 999", WebSocketClient.closeFrame(999), 1002),
            ("close reason bad UTF-8", WebSocketClient.frame(0x8, [3, 0xE8, 0xFF]), 1007),
        ]
        for (name, bytes, code) in cases { #expect(steps(bytes).last == "violation \(code)", "\(name)") }
    }

    @Test("random bytes never trap")
    func survivesNoise() {
        var generator = SeededGenerator.announced("frame noise")
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...40, using: &generator)
            var bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if count > 1, Bool.random(using: &generator) { bytes[1] |= 0x80 }
            _ = steps(bytes, pieces: [Int.random(in: 0...max(1, count), using: &generator)])
        }
    }
}
