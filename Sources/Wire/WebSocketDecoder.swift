// Reads a client's frames (RFC 6455, section 5) from a buffer that the caller owns, one step a call. It unmasks in
// place and copies only fragments of a message. Every violation has its close code; after one, the decoder is done.

/// The decoder of one connection's inbound frames. Default-constructed it holds no heap memory, so a connection
/// that is between messages need not keep one.
package struct WebSocketDecoder {
    package enum Step: Equatable {
        /// The next frame is not complete; read more bytes behind what is there.
        case incomplete
        /// One frame of a fragmented message was taken in; go on behind it.
        case fragment(consumed: Int)
        /// A whole message in the caller's buffer, unmasked.
        case message(isText: Bool, payload: Range<Int>, consumed: Int)
        /// A message that came in fragments.
        case assembled(isText: Bool, payload: [UInt8], consumed: Int)
        case ping(payload: Range<Int>, consumed: Int)
        case pong(consumed: Int)
        /// The peer's close frame; `code` is `nil` when it named none.
        case close(code: UInt16?, consumed: Int)
        /// The peer broke the protocol: close with this code.
        case violation(code: UInt16)
    }

    private var fragmentedOpcode: WebSocketOpcode?
    private var assembled: [UInt8] = []

    package init() {}

    /// Whether nothing of an unfinished message is held.
    package var isBetweenMessages: Bool { fragmentedOpcode == nil }

    /// Reads the frame at `start` in `buffer`.
    /// - Parameter maximumMessageBytes: a message above it is 1009.
    // SAFETY: `buffer` is the caller's for the length of the call and nobody else reads or writes it meanwhile; every
    // access lies below `buffer.count`, which is checked before the payload is touched.
    package mutating func next(
        in buffer: UnsafeMutableRawBufferPointer, from start: Int, maximumMessageBytes: Int
    ) -> Step {
        let available = buffer.count - start
        guard available >= 2 else { return .incomplete }
        let first = buffer[start]
        let second = buffer[start + 1]
        guard first & 0x70 == 0, let opcode = WebSocketOpcode(rawValue: first & 0x0F), second & 0x80 != 0
        else {
            return .violation(code: CloseCode.protocolError)
        }
        let isFinal = first & 0x80 != 0
        var length = UInt64(second & 0x7F)
        var header = 2
        if opcode.isControl {
            guard isFinal, length <= 125 else { return .violation(code: CloseCode.protocolError) }
        } else {
            guard (opcode == .continuation) == (fragmentedOpcode != nil) else {
                return .violation(code: CloseCode.protocolError)
            }
            let extended = length == 126 ? 2 : length == 127 ? 8 : 0
            guard available >= 2 + extended else { return .incomplete }
            if extended > 0 {
                length = 0
                for index in 0..<extended { length = length << 8 | UInt64(buffer[start + 2 + index]) }
                // The shortest form must be used (5.2), and the top bit of 64 must be clear.
                guard length >= (extended == 2 ? 126 : 65_536), length >> 63 == 0 else {
                    return .violation(code: CloseCode.protocolError)
                }
                header += extended
            }
            guard length <= UInt64(max(0, maximumMessageBytes - assembled.count)) else {
                return .violation(code: CloseCode.messageTooBig)
            }
        }
        guard available >= header + 4 + Int(length) else { return .incomplete }
        let payload = start + header + 4..<start + header + 4 + Int(length)
        Self.unmask(buffer, payload, keyAt: start + header)
        return take(opcode, isFinal: isFinal, buffer, payload, consumed: header + 4 + Int(length))
    }

    private mutating func take(
        _ opcode: WebSocketOpcode, isFinal: Bool, _ buffer: UnsafeMutableRawBufferPointer,
        _ payload: Range<Int>,
        consumed: Int
    ) -> Step {
        switch opcode {
        case .ping: return .ping(payload: payload, consumed: consumed)
        case .pong: return .pong(consumed: consumed)
        case .close: return Self.closeStep(buffer, payload, consumed: consumed)
        case .text, .binary:
            guard isFinal else {
                fragmentedOpcode = opcode
                assembled = Array(buffer[payload])
                return .fragment(consumed: consumed)
            }
            if opcode == .text, !Self.isUTF8(UnsafeRawBufferPointer(rebasing: buffer[payload])) {
                return .violation(code: CloseCode.invalidPayload)
            }
            return .message(isText: opcode == .text, payload: payload, consumed: consumed)
        case .continuation:
            assembled.append(contentsOf: buffer[payload])
            guard isFinal else { return .fragment(consumed: consumed) }
            let isText = fragmentedOpcode == .text
            let message = assembled
            fragmentedOpcode = nil
            assembled = []
            if isText, !message.withUnsafeBytes(Self.isUTF8) {
                return .violation(code: CloseCode.invalidPayload)
            }
            return .assembled(isText: isText, payload: message, consumed: consumed)
        }
    }

    private static func closeStep(
        _ buffer: UnsafeMutableRawBufferPointer, _ payload: Range<Int>, consumed: Int
    ) -> Step {
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

    // SAFETY: as for `next`: both ranges were checked against the buffer's count.
    private static func unmask(_ buffer: UnsafeMutableRawBufferPointer, _ payload: Range<Int>, keyAt: Int) {
        guard !payload.isEmpty else { return }
        let key = buffer.loadUnaligned(fromByteOffset: keyAt, as: UInt32.self)
        let wide = UInt64(key) << 32 | UInt64(key)
        var index = payload.lowerBound
        while index + 8 <= payload.upperBound {
            let word = buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            buffer.storeBytes(of: word ^ wide, toByteOffset: index, as: UInt64.self)
            index += 8
        }
        while index < payload.upperBound {
            buffer[index] ^= buffer[keyAt + (index - payload.lowerBound) % 4]
            index += 1
        }
    }

    private static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
        do {
            _ = try UTF8Span(validating: bytes.bindMemory(to: UInt8.self).span)
            return true
        } catch {
            return false
        }
    }
}
