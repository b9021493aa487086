// WebSocket frames (RFC 6455, section 5): the header's fields, writing server frames, and the close codes.

package enum WebSocketOpcode: UInt8, Sendable {
    case continuation = 0x0, text = 0x1, binary = 0x2, close = 0x8, ping = 0x9, pong = 0xA

    package var isControl: Bool { rawValue & 0x8 != 0 }
}

/// Why a connection ends, as the peer reads it (RFC 6455, 7.4; 4000–4999 are the application's).
package enum CloseCode {
    /// The auction is over.
    package static let normal: UInt16 = 1000
    package static let goingAway: UInt16 = 1001
    package static let protocolError: UInt16 = 1002
    package static let unsupportedData: UInt16 = 1003
    package static let invalidPayload: UInt16 = 1007
    package static let policyViolation: UInt16 = 1008
    package static let messageTooBig: UInt16 = 1009
    package static let serviceRestart: UInt16 = 1012
    package static let tryAgainLater: UInt16 = 1013
    /// The watcher took nothing for too long.
    package static let tooSlow: UInt16 = 4008

    /// Whether a peer may send `code` in a close frame (RFC 6455, 7.4.1 and 7.4.2; 1012–1014 by IANA's
    /// registry).
    package static func mayBeReceived(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }
}

package enum WebSocketFrame {
    /// The longest header of a server's frame, in bytes.
    package static let maximumHeaderBytes = 10

    /// Appends the header of an unfragmented, unmasked frame.
    /// - Parameter isCompressed: whether the payload is a compressed message (RFC 7692, 6).
    package static func appendHeader(
        _ opcode: WebSocketOpcode, payloadCount: Int, isCompressed: Bool = false, to output: inout [UInt8]
    ) {
        output.append((isCompressed ? 0xC0 : 0x80) | opcode.rawValue)
        switch payloadCount {
        case ..<126: output.append(UInt8(payloadCount))
        case ..<65_536:
            output.append(126)
            output.append(UInt8(payloadCount >> 8))
            output.append(UInt8(payloadCount & 0xFF))
        default:
            output.append(127)
            for shift in stride(from: 56, through: 0, by: -8) {
                output.append(UInt8(truncatingIfNeeded: payloadCount >> shift))
            }
        }
    }

    /// A whole unmasked frame.
    package static func encode(
        _ opcode: WebSocketOpcode, _ payload: some Collection<UInt8>, isCompressed: Bool = false
    ) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(maximumHeaderBytes + payload.count)
        appendHeader(opcode, payloadCount: payload.count, isCompressed: isCompressed, to: &output)
        output.append(contentsOf: payload)
        return output
    }

    /// A close frame; `reason` is cut to the 123 bytes a control frame has room for, between characters.
    package static func close(_ code: UInt16, reason: String = "") -> [UInt8] {
        var payload = [UInt8(code >> 8), UInt8(code & 0xFF)]
        for character in reason {
            guard payload.count + character.utf8.count <= 125 else { break }
            payload.append(contentsOf: character.utf8)
        }
        return encode(.close, payload)
    }
}
