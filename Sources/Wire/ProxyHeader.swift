// The header by which a proxy names the client it speaks for: PROXY protocol, version 2 (HAProxy's
// specification, section 2.2). It precedes everything else on a connection, also the TLS handshake.

package enum ProxyHeader {
    package enum Reading: Equatable, Sendable {
        /// The header needs so many bytes, as far as is known by now. What follows them is not the header's.
        case incomplete(needed: Int)
        /// The address is 4 or 16 bytes in network order. It is `nil` when the proxy speaks for itself, or
        /// for a client without an Internet address.
        case complete(client: [UInt8]?)
        /// This is no such header, or one that is longer than ``maximumBytes``.
        case invalid
    }

    /// Room for the addresses and for what proxies add to them: a certificate's names, a connection's number.
    package static let maximumBytes = 4_096

    private static let signature: [UInt8] = [
        0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
    ]
    /// Signature, version and command, family, length.
    private static let fixedBytes = 16

    /// Reads a header from its first bytes.
    /// - Parameter bytes: no more than the header, which a caller that asks for what is `needed` cannot have.
    package static func read(_ bytes: [UInt8]) -> Reading {
        guard signature.starts(with: bytes.prefix(signature.count)) else { return .invalid }
        guard bytes.count >= fixedBytes else { return .incomplete(needed: fixedBytes) }
        let total = fixedBytes + Int(bytes[14]) << 8 + Int(bytes[15])
        guard bytes[12] >> 4 == 2, total <= maximumBytes else { return .invalid }
        guard bytes.count >= total else { return .incomplete(needed: total) }
        switch bytes[12] & 0x0F {
        // LOCAL: the proxy's own health check.
        case 0: return .complete(client: nil)
        case 1: break
        default: return .invalid
        }
        // Only TCP reaches this listener, whatever the protocol's half says.
        let length: Int
        switch bytes[13] >> 4 {
        case 1: length = 4
        case 2: length = 16
        default: return .complete(client: nil)
        }
        // Source and destination, and a port for each.
        guard total >= fixedBytes + 2 * length + 4 else { return .invalid }
        return .complete(client: Array(bytes[fixedBytes..<fixedBytes + length]))
    }
}
