// Reads a request's body as its head frames it (RFC 9112, 6 and 7.1): by length or in chunks, within a bound,
// without leniency. Pure: it is given bytes as they come.

package struct RequestBody {
    package enum Step: Equatable, Sendable {
        /// `consumed` bytes were taken in, and the body continues.
        case more(consumed: Int)
        /// The body is complete; what follows is the next request's.
        case complete(consumed: Int)
        /// 400: the chunks are not what RFC 9112 says.
        case malformed
        /// 413
        case tooLarge
    }

    private enum State {
        /// Inside the content, with `remaining` bytes to come. Can transition to: chunkEnd, done.
        case content(remaining: Int, isLast: Bool)
        /// In the line before a chunk, with the digits so far. Can transition to: content, trailers.
        case chunkSize(Int, digits: Int)
        /// In a chunk's extensions, which mean nothing here, up to the line's end. Can transition to:
        /// content, trailers.
        case chunkExtension(Int, count: Int)
        /// Behind the CR of a chunk's line. Can transition to: content, trailers.
        case chunkLineEnd(Int)
        /// Between a chunk's content and its CR (0) or LF (1). Can transition to: chunkSize.
        case chunkEnd(Int)
        /// In the fields behind the last chunk, which are dropped. Can transition to: done.
        case trailers(lineCount: Int, count: Int, hasReturn: Bool)
        case done
    }

    /// Longer extensions and trailers are taken for an attempt to waste time.
    private static let maximumExtraBytes = 4_096

    /// What has come so far.
    package private(set) var bytes: [UInt8] = []
    private var state: State
    private let maximumBytes: Int

    /// The body of a request with this head; `nil` when its head says that it is too long.
    package init?(_ head: RequestHead, maximumBytes: Int) {
        guard head.contentLength <= UInt64(maximumBytes) else { return nil }
        self.maximumBytes = maximumBytes
        state =
            head.isChunked
            ? .chunkSize(0, digits: 0) : .content(remaining: Int(head.contentLength), isLast: true)
    }

    /// Takes in `input`, as far as it belongs to the body.
    package mutating func take(_ input: Span<UInt8>) -> Step {
        var index = 0
        while true {
            if case .done = state { return .complete(consumed: index) }
            if case .content(let remaining, let isLast) = state {
                let count = min(remaining, input.count - index)
                // SAFETY: the bytes are copied within the call.
                input.extracting(index..<index + count).withUnsafeBufferPointer {
                    bytes.append(contentsOf: $0)
                }
                index += count
                guard count == remaining else {
                    state = .content(remaining: remaining - count, isLast: isLast)
                    return .more(consumed: index)
                }
                state = isLast ? .done : .chunkEnd(0)
                continue
            }
            guard index < input.count else { return .more(consumed: index) }
            guard advance(input[index]) else { return .malformed }
            if case .content(let size, _) = state, size > maximumBytes - bytes.count { return .tooLarge }
            index += 1
        }
    }

    /// Takes a byte of the framing; false when it is wrong.
    private mutating func advance(_ byte: UInt8) -> Bool {
        switch state {
        case .content, .done: return false
        case .chunkSize(let size, let digits):
            if let digit = Self.hexadecimal(byte) {
                // Seven digits reach 256 MiB. More digits are no plausible size and would overflow.
                guard digits < 7 else { return false }
                state = .chunkSize(size << 4 | digit, digits: digits + 1)
                return true
            }
            guard digits > 0 else { return false }
            if byte == UInt8(ascii: ";") {
                state = .chunkExtension(size, count: 0)
                return true
            }
            state = .chunkLineEnd(size)
            return byte == 0x0D
        case .chunkExtension(let size, let count):
            state = byte == 0x0D ? .chunkLineEnd(size) : .chunkExtension(size, count: count + 1)
            return byte == 0x0D
                || count < Self.maximumExtraBytes && (byte >= 0x20 && byte != 0x7F || byte == 0x09)
        case .chunkLineEnd(let size):
            state =
                size > 0
                ? .content(remaining: size, isLast: false)
                : .trailers(lineCount: 0, count: 0, hasReturn: false)
            return byte == 0x0A
        case .chunkEnd(let position):
            state = position == 0 ? .chunkEnd(1) : .chunkSize(0, digits: 0)
            return byte == (position == 0 ? 0x0D : 0x0A)
        case .trailers(let lineCount, let count, let hasReturn):
            if hasReturn {
                state = lineCount == 0 ? .done : .trailers(lineCount: 0, count: count, hasReturn: false)
                return byte == 0x0A
            }
            if byte == 0x0D {
                state = .trailers(lineCount: lineCount, count: count, hasReturn: true)
                return true
            }
            state = .trailers(lineCount: lineCount + 1, count: count + 1, hasReturn: false)
            return count < Self.maximumExtraBytes && (byte >= 0x20 && byte != 0x7F || byte == 0x09)
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> Int? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(byte - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(byte - UInt8(ascii: "A")) + 10
        default: nil
        }
    }
}
