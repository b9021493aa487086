// The PROXY protocol header, version 2 (HAProxy's specification, section 2.2), in which a proxy names its
// client. The header precedes everything else on a connection, including the TLS handshake.

package enum ProxyHeader {
    package enum Reading: Equatable, Sendable {
        /// The header has at least `needed` bytes. Bytes beyond that may not belong to the header.
        case incomplete(needed: Int)
        /// The address is 4 or 16 bytes in network order. It is `nil` when the proxy speaks for itself, or
        /// for a client without an Internet address.
        case complete(client: [UInt8]?)
        /// Not a valid version 2 header, or one that is longer than ``maximumBytes``.
        case invalid
    }

    /// Room for the addresses and the TLVs that proxies append, such as certificate names or a connection ID.
    package static let maximumBytes = 4_096

    private static let signature: [UInt8] = [
        0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
    ]
    /// Signature, version and command, family, length.
    private static let fixedBytes = 16

    /// Reads a header from its first bytes.
    /// - Parameter bytes: never more than the header. Callers receive only up to the `needed` bytes.
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
        // The transport in the low four bits is ignored: only stream connections reach this code.
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
