// The server's side of the three transports, as far as a watcher must read it: heads, frames, server-sent
// events, and the events of a long-poll's answer. Each reader says how far it got and keeps nothing.

import Glibc

/// A response's head.
struct ReplyHead {
    let status: Int
    let contentLength: Int?
    let retryAfterSeconds: Int?
    /// The bytes it took.
    let count: Int

    // SAFETY: in this file `bytes` are the caller's for the length of the call; ranges refer to them.
    /// `nil` while it is incomplete.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let end = ScannedMessage.find("\r\n\r\n", in: bytes) else { return nil }
        count = end
        let text = String(decoding: bytes[..<end], as: UTF8.self).lowercased()
        let lines = text.split(separator: "\r\n")
        status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        func field(_ name: String) -> Int? {
            lines.first { $0.hasPrefix(name + ":") }.flatMap {
                Int($0.dropFirst(name.count + 1).trimmingPrefix(" "))
            }
        }
        contentLength = field("content-length")
        retryAfterSeconds = field("retry-after")
    }
}

/// A frame of the server's: unmasked and never fragmented.
struct ServerFrame {
    let opcode: UInt8
    let isCompressed: Bool
    let payload: Range<Int>

    /// `nil` while it is incomplete.
    init?(_ bytes: UnsafeRawBufferPointer, at start: Int) {
        guard bytes.count - start >= 2 else { return nil }
        opcode = bytes[start] & 0x0F
        isCompressed = bytes[start] & 0x40 != 0
        var count = Int(bytes[start + 1] & 0x7F)
        var header = 2
        if count >= 126 {
            let extended = count == 126 ? 2 : 8
            guard bytes.count - start >= 2 + extended else { return nil }
            count = bytes[(start + 2)..<(start + 2 + extended)].reduce(0) { $0 << 8 | Int($1) }
            header += extended
        }
        guard bytes.count - start >= header + count else { return nil }
        payload = (start + header)..<(start + header + count)
    }

    /// A client's pong; its mask is all zeros.
    static func pong(_ payload: UnsafeRawBufferPointer) -> [UInt8] {
        [0x8A, 0x80 | UInt8(payload.count & 0x7F), 0, 0, 0, 0] + payload
    }

    /// A client's close frame.
    static func close(_ code: UInt16) -> [UInt8] {
        [0x88, 0x82, 0, 0, 0, 0, UInt8(code >> 8), UInt8(code & 0xFF)]
    }
}

/// A server-sent event, or a comment.
struct StreamBlock {
    /// Empty for comments.
    let data: Range<Int>
    let isClose: Bool
    let end: Int

    /// `nil` while it is incomplete.
    init?(_ bytes: UnsafeRawBufferPointer, at start: Int) {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
        guard let length = ScannedMessage.find("\n\n", in: rest) else { return nil }
        end = start + length
        let block = UnsafeRawBufferPointer(rebasing: rest[..<length])
        isClose = ScannedMessage.find("event: CLOSE\n", in: block) != nil
        guard let data = ScannedMessage.find("data: ", in: block) else {
            self.data = start..<start
            return
        }
        let line = UnsafeRawBufferPointer(rebasing: block[data...])
        let count = ScannedMessage.find("\n", in: line).map { $0 - 1 } ?? line.count
        self.data = (start + data)..<(start + data + count)
    }
}

/// The `events` of a long-poll's answer.
enum PollBody {
    /// Calls `body` with each event's bytes.
    static func forEachEvent(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
        guard var index = ScannedMessage.find(#""events":["#, in: bytes) else { return }
        var depth = 0
        var start = index
        var isInString = false
        while index < bytes.count {
            let byte = bytes[index]
            if isInString {
                if byte == UInt8(ascii: "\\") {
                    index += 1
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
            } else {
                switch byte {
                case UInt8(ascii: "\""): isInString = true
                case UInt8(ascii: "{"):
                    if depth == 0 { start = index }
                    depth += 1
                case UInt8(ascii: "}"):
                    depth -= 1
                    if depth == 0 { body(UnsafeRawBufferPointer(rebasing: bytes[start...index])) }
                case UInt8(ascii: "]") where depth == 0: return
                default: break
                }
            }
            index += 1
        }
    }
}
