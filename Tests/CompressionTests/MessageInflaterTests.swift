import Compression
import TestSupport
import Testing

@Suite struct MessageInflaterTests {
    @Test("the compressed forms of RFC 7692, section 7.2.3, are read")
    func vectors() {
        let inflater = MessageInflater()
        let hello = Array("Hello".utf8)
        let vectors: [[UInt8]] = [
            [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
            // A block without compression.
            [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            // A block that says it is the last one.
            [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            // Two blocks.
            [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ]
        for vector in vectors {
            #expect(inflater.expand(vector, maximumBytes: 5) == .message(hello), "\(vector)")
        }
        #expect(inflater.expand([0x00], maximumBytes: 5) == .message([]))
    }

    @Test("a message of many last blocks is refused before it costs much; a few are read")
    func lastBlocks() {
        let inflater = MessageInflater()
        // An empty block that says it is the last one, over and over.
        func message(_ count: Int) -> [UInt8] { (0..<count).flatMap { _ in [0x03, 0x00] as [UInt8] } }
        #expect(inflater.expand(message(15) + [0x00], maximumBytes: 5) == .message([]))
        #expect(inflater.expand(message(16), maximumBytes: 5) == .malformed)
        #expect(inflater.expand(message(100_000), maximumBytes: 5) == .malformed)
    }

    @Test("what is compressed comes back, whatever the window")
    func roundTrip() {
        var generator = SeededGenerator.announced("deflate")
        let inflater = MessageInflater()
        for bits in 9...15 {
            let deflater = MessageDeflater(windowBits: bits)
            for _ in 0..<40 {
                let letters = UInt8.random(in: 1...255, using: &generator)
                let message = (0..<Int.random(in: 0...40_000, using: &generator)).map { _ in
                    UInt8.random(in: 0...letters, using: &generator)
                }
                let compressed = deflater.compress(message)
                #expect(inflater.expand(compressed, maximumBytes: message.count) == .message(message))
                guard !message.isEmpty else { continue }
                #expect(inflater.expand(compressed, maximumBytes: message.count - 1) == .tooLarge)
            }
        }
    }

    @Test("messages of a whole number of buffers come back, and messages that were cut do not")
    func edges() {
        let inflater = MessageInflater()
        let deflater = MessageDeflater()
        for size in [16_384, 32_768, 65_536, 131_072] {
            for message in [
                [UInt8](repeating: 7, count: size), (0..<size).map { UInt8(truncatingIfNeeded: $0 &* $0) },
            ] {
                let compressed = deflater.compress(message)
                #expect(inflater.expand(compressed, maximumBytes: size) == .message(message), "\(size)")
                let cut = compressed.prefix(compressed.count / 2)
                #expect(inflater.expand(cut, maximumBytes: 2 * size) != .message(message))
            }
        }
        #expect(inflater.expand([0xF2, 0x48], maximumBytes: 5) == .malformed)
    }

    @Test("each message stands alone")
    func freshContext() {
        let deflater = MessageDeflater()
        let message = Array("the same words, the same words, the same words".utf8)
        #expect(deflater.compress(message) == deflater.compress(message))
    }

    @Test("a bomb stops at the bound")
    func bomb() {
        let bomb = MessageDeflater(windowBits: 15).compress([UInt8](repeating: 0, count: 10_000_000))
        #expect(bomb.count < 20_000)
        #expect(MessageInflater().expand(bomb, maximumBytes: 4_096) == .tooLarge)
    }

    @Test("noise is refused or read, and never traps; the inflater goes on afterwards")
    func noise() {
        var generator = SeededGenerator.announced("inflate noise")
        let inflater = MessageInflater()
        var refused = 0
        for _ in 0..<20_000 {
            let noise = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            if inflater.expand(noise, maximumBytes: 4_096) == .malformed { refused += 1 }
        }
        #expect(refused > 1_000)
        let hello: [UInt8] = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]
        #expect(inflater.expand(hello, maximumBytes: 5) == .message(Array("Hello".utf8)))
    }
}
