// Reads a client's frames (RFC 6455, section 5) from a buffer that the caller owns, one step a call. It
// unmasks in place, and copies only messages that arrive in parts. It takes in each part as it arrives, so it
// looks at each byte once, however small the parts are. Every violation has its close code, and ends the
// decoder's work.

/// The decoder of one connection's inbound frames. Default-constructed it holds no heap memory, so a
/// connection that is between messages need not keep one.
package struct WebSocketDecoder {
    package enum Step: Equatable {
        /// The next frame's header, or a control frame, is incomplete. Append more bytes to the buffer.
        case incomplete
        /// The decoder took in a part of a message. Continue after the consumed bytes.
        case part(consumed: Int)
        /// A whole message in the caller's buffer, unmasked.
        case message(Kind, payload: Range<Int>, consumed: Int)
        /// A message that came in parts.
        case assembled(Kind, payload: [UInt8], consumed: Int)
        case ping(payload: Range<Int>, consumed: Int)
        case pong(consumed: Int)
        /// The peer's close frame; `code` is `nil` when it named none.
        case close(code: UInt16?, consumed: Int)
        /// The peer broke the protocol: close with this code.
        case violation(code: UInt16)
    }

    /// What a message's bytes are.
    package enum Kind: Equatable, Sendable {
        /// UTF-8, checked.
        case text
        case binary
        /// The compressed form of either (RFC 7692); not checked.
        case compressed(isText: Bool)

        package var isText: Bool {
            switch self {
            case .text: true
            case .binary: false
            case .compressed(let isText): isText
            }
        }
    }

    /// What the caller allows.
    package struct Rules: Sendable {
        /// A longer message is a violation with code 1009.
        package let maximumMessageBytes: Int
        /// Whether permessage-deflate was agreed on.
        package let allowsCompression: Bool

        package init(maximumMessageBytes: Int, allowsCompression: Bool) {
            self.maximumMessageBytes = maximumMessageBytes
            self.allowsCompression = allowsCompression
        }
    }

    /// A message of which a part has arrived, for another decoder to go on from.
    package struct Unfinished: Sendable, Equatable {
        /// A data frame whose payload has not all arrived.
        package struct Frame: Sendable, Equatable {
            package let isFinal: Bool
            package fileprivate(set) var remaining: Int
            /// Its first byte (the lowest) masks the next byte of the payload.
            package fileprivate(set) var key: UInt32

            package init(isFinal: Bool, remaining: Int, key: UInt32) {
                self.isFinal = isFinal
                self.remaining = remaining
                self.key = key
            }
        }

        package let kind: Kind
        package let bytes: [UInt8]
        /// `nil` between two frames of the message.
        package let frame: Frame?

        package init(kind: Kind, bytes: [UInt8], frame: Frame?) {
            self.kind = kind
            self.bytes = bytes
            self.frame = frame
        }

        package var isCompressed: Bool {
            if case .compressed = kind { true } else { false }
        }
    }

    private typealias Frame = Unfinished.Frame

    /// A message of which the last frame has not all arrived.
    private struct Message {
        let kind: Kind
        var bytes: [UInt8] = []
        var validator = UTF8Validator()
    }

    private var frame: Frame?
    private var message: Message?

    package init() {}

    /// A decoder that goes on with a message; with a new one when it is `nil`.
    package init(_ unfinished: Unfinished?) {
        guard let unfinished else { return }
        frame = unfinished.frame
        var message = Message(kind: unfinished.kind, bytes: unfinished.bytes)
        // The bytes were checked when they arrived. This brings the validator to where it stood.
        if unfinished.kind == .text {
            _ = unfinished.bytes.withUnsafeBytes { message.validator.take($0) }
        }
        self.message = message
    }

    /// The message of which a part has arrived; `nil` between messages.
    package var unfinished: Unfinished? {
        message.map { Unfinished(kind: $0.kind, bytes: $0.bytes, frame: frame) }
    }

    /// True while the decoder holds no part of an unfinished message.
    package var isBetweenMessages: Bool { message == nil }

    /// Reads what is at `start` in `buffer`: a frame, or more of the one under way.
    // SAFETY: `buffer` is the caller's for the length of the call and nobody else reads or writes it
    // meanwhile; every access lies below `buffer.count`, which is checked before the payload is touched.
    package mutating func next(
        in buffer: UnsafeMutableRawBufferPointer, from start: Int, _ rules: Rules
    ) -> Step {
        if let frame { return absorb(frame, buffer, from: start, headerBytes: 0) }
        let available = buffer.count - start
        guard available >= 2 else { return .incomplete }
        let first = buffer[start]
        let second = buffer[start + 1]
        guard first & 0x30 == 0, let opcode = WebSocketOpcode(rawValue: first & 0x0F), second & 0x80 != 0
        else { return .violation(code: CloseCode.protocolError) }
        let isFinal = first & 0x80 != 0
        let isCompressed = first & 0x40 != 0
        // Only a message's first frame says that it is compressed (RFC 7692, 6.1).
        guard !isCompressed || rules.allowsCompression && (opcode == .text || opcode == .binary) else {
            return .violation(code: CloseCode.protocolError)
        }
        if opcode.isControl {
            let length = Int(second & 0x7F)
            guard isFinal, length <= 125 else { return .violation(code: CloseCode.protocolError) }
            guard available >= 6 + length else { return .incomplete }
            let payload = start + 6..<start + 6 + length
            Self.unmask(buffer, payload, key: Self.key(buffer, at: start + 2))
            return Self.control(opcode, buffer, payload, consumed: 6 + length)
        }
        guard (opcode == .continuation) == (message != nil) else {
            return .violation(code: CloseCode.protocolError)
        }
        let extended = second & 0x7F == 126 ? 2 : second & 0x7F == 127 ? 8 : 0
        guard available >= 2 + extended else { return .incomplete }
        var length = UInt64(second & 0x7F)
        if extended > 0 {
            length = 0
            for index in 0..<extended { length = length << 8 | UInt64(buffer[start + 2 + index]) }
            // The shortest form must be used (5.2), and the top bit of 64 must be clear.
            guard length >= (extended == 2 ? 126 : 65_536), length >> 63 == 0 else {
                return .violation(code: CloseCode.protocolError)
            }
        }
        guard length <= UInt64(max(0, rules.maximumMessageBytes - (message?.bytes.count ?? 0))) else {
            return .violation(code: CloseCode.messageTooBig)
        }
        let header = 2 + extended + 4
        guard available >= header else { return .incomplete }
        let kind: Kind =
            isCompressed ? .compressed(isText: opcode == .text) : opcode == .text ? .text : .binary
        let key = Self.key(buffer, at: start + header - 4)
        if isFinal, message == nil, available - header >= Int(length) {
            let payload = start + header..<start + header + Int(length)
            Self.unmask(buffer, payload, key: key)
            if kind == .text, !Self.isUTF8(UnsafeRawBufferPointer(rebasing: buffer[payload])) {
                return .violation(code: CloseCode.invalidPayload)
            }
            return .message(kind, payload: payload, consumed: header + Int(length))
        }
        if message == nil { message = Message(kind: kind) }
        let frame = Frame(isFinal: isFinal, remaining: Int(length), key: key)
        return absorb(frame, buffer, from: start + header, headerBytes: header)
    }

    /// Takes in what is there of a data frame's payload.
    // SAFETY: as for `next`.
    private mutating func absorb(
        _ current: Frame, _ buffer: UnsafeMutableRawBufferPointer, from start: Int, headerBytes: Int
    ) -> Step {
        var current = current
        let count = min(current.remaining, buffer.count - start)
        let part = start..<start + count
        Self.unmask(buffer, part, key: current.key)
        let shift = UInt32(count % 4) * 8
        current.key = shift == 0 ? current.key : current.key >> shift | current.key << (32 - shift)
        current.remaining -= count
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[part])
        if message?.kind == .text, message?.validator.take(bytes) == false {
            return .violation(code: CloseCode.invalidPayload)
        }
        message?.bytes.append(contentsOf: bytes)
        let consumed = headerBytes + count
        frame = current.remaining > 0 ? current : nil
        guard current.remaining == 0, current.isFinal, let whole = message else {
            return .part(consumed: consumed)
        }
        message = nil
        guard whole.validator.isBetweenCharacters else {
            return .violation(code: CloseCode.invalidPayload)
        }
        return .assembled(whole.kind, payload: whole.bytes, consumed: consumed)
    }

    private static func control(
        _ opcode: WebSocketOpcode, _ buffer: UnsafeMutableRawBufferPointer, _ payload: Range<Int>,
        consumed: Int
    ) -> Step {
        switch opcode {
        case .ping: return .ping(payload: payload, consumed: consumed)
        case .pong: return .pong(consumed: consumed)
        case .close, .text, .binary, .continuation: break
        }
        if payload.isEmpty { return .close(code: nil, consumed: consumed) }
        guard payload.count >= 2 else { return .violation(code: CloseCode.protocolError) }
        let code = UInt16(buffer[payload.lowerBound]) << 8 | UInt16(buffer[payload.lowerBound + 1])
        guard CloseCode.mayBeReceived(code) else { return .violation(code: CloseCode.protocolError) }
        let reason = payload.lowerBound + 2..<payload.upperBound
        guard isUTF8(UnsafeRawBufferPointer(rebasing: buffer[reason])) else {
            return .violation(code: CloseCode.invalidPayload)
        }
        return .close(code: code, consumed: consumed)
    }

    // SAFETY: as for `next`: the caller has checked the ranges against the buffer's count.
    private static func key(_ buffer: UnsafeMutableRawBufferPointer, at index: Int) -> UInt32 {
        UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: index, as: UInt32.self))
    }

    private static func unmask(_ buffer: UnsafeMutableRawBufferPointer, _ payload: Range<Int>, key: UInt32) {
        let wide = (UInt64(key) << 32 | UInt64(key)).littleEndian
        var index = payload.lowerBound
        while index + 8 <= payload.upperBound {
            let word = buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            buffer.storeBytes(of: word ^ wide, toByteOffset: index, as: UInt64.self)
            index += 8
        }
        var shift: UInt32 = 0
        while index < payload.upperBound {
            buffer[index] ^= UInt8(truncatingIfNeeded: key >> shift)
            shift = (shift + 8) & 31
            index += 1
        }
    }

    /// Whether `bytes` is UTF-8.
    package static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
        do {
            _ = try UTF8Span(validating: bytes.bindMemory(to: UInt8.self).span)
            return true
        } catch {
            return false
        }
    }
}
