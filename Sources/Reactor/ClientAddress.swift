// A client's identity for limits: an IPv4 address, or the /64 from which an IPv6 host can choose its address.

import CLinux
import Glibc

package struct ClientAddress: Hashable, Sendable, CustomStringConvertible {
    /// An IPv6 address in network order; IPv4 is mapped (`::ffff:a.b.c.d`).
    fileprivate let high: UInt64
    fileprivate let low: UInt64

    fileprivate init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    private static let mapped: UInt64 = 0x0000_FFFF << 32

    /// Stands for whoever is at the other end of a Unix socket: a proxy on this machine, which is trusted.
    package static let localSocket = ClientAddress(high: 0, low: 0)

    fileprivate var isIPv4: Bool { high == 0 && low & ~0xFFFF_FFFF == Self.mapped }

    /// What a limit counts: the address itself, or an IPv6 host's network.
    package var network: ClientAddress { isIPv4 ? self : ClientAddress(high: high, low: 0) }

    // SAFETY: `inet_pton` and `inet_ntop` read and write the storage they are given within its size.
    /// Reads `1.2.3.4` or `2001:db8::1`; `nil` for anything else.
    package init?(text: some StringProtocol) {
        let text = String(text)
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &bytes) == 1 {
            let number = bytes[..<4].reduce(0) { $0 << 8 | UInt64($1) }
            self.init(high: 0, low: Self.mapped | number)
        } else if inet_pton(AF_INET6, text, &bytes) == 1 {
            self.init(bytes)
        } else {
            return nil
        }
    }

    /// - Parameter octets: in network order; 4 of IPv4 or 16 of IPv6, else `nil`.
    package init?(octets: [UInt8]) {
        switch octets.count {
        case 4: self.init(high: 0, low: Self.mapped | octets.reduce(0) { $0 << 8 | UInt64($1) })
        case 16: self.init(octets)
        default: return nil
        }
    }

    private init(_ bytes: some Collection<UInt8>) {
        self.init(
            high: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
            low: bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// The address that the kernel reports for an accepted connection; `nil` when it is of another family.
    init?(_ storage: sockaddr_storage) {
        var storage = storage
        switch Int32(storage.ss_family) {
        case AF_INET:
            let number = withUnsafePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    UInt32(bigEndian: $0.pointee.sin_addr.s_addr)
                }
            }
            self.init(high: 0, low: Self.mapped | UInt64(number))
        case AF_INET6:
            let bytes = withUnsafePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                    withUnsafeBytes(of: $0.pointee.sin6_addr) { Array($0) }
                }
            }
            self.init(bytes)
        case AF_UNIX: self = .localSocket
        default: return nil
        }
    }

    package var description: String {
        var text = [CChar](repeating: 0, count: 64)
        let bytes = [high, low].flatMap { part in
            (0..<8).map { UInt8(truncatingIfNeeded: part >> (56 - 8 * $0)) }
        }
        if isIPv4 {
            inet_ntop(AF_INET, Array(bytes[12...]), &text, socklen_t(text.count))
        } else {
            inet_ntop(AF_INET6, bytes, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single one.
package struct AddressBlock: Sendable {
    private let first: ClientAddress
    private let highMask: UInt64
    private let lowMask: UInt64

    /// `nil` when `text` is no address or block.
    package init?(text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = ClientAddress(text: parts[0]), parts.count <= 2 else { return nil }
        let most = address.isIPv4 ? 32 : 128
        guard let length = parts.count == 2 ? Int(parts[1]) : most, (0...most).contains(length) else {
            return nil
        }
        let bits = 128 - most + length
        highMask = bits >= 64 ? .max : bits == 0 ? 0 : .max << UInt64(64 - bits)
        lowMask = bits <= 64 ? 0 : .max << UInt64(128 - bits)
        first = address
    }

    package func contains(_ address: ClientAddress) -> Bool {
        (address.high ^ first.high) & highMask == 0 && (address.low ^ first.low) & lowMask == 0
    }
}

/// Finds the client of a request that came through proxies.
package enum ForwardedClient {
    /// The rightmost address of `X-Forwarded-For` that is not a trusted proxy's. Anybody may have written the
    /// entries left of it. `nil` when the field is empty. An entry that is no address counts for the proxy
    /// that wrote it.
    /// - Parameters:
    ///   - field: the field's value, such as `203.0.113.7, 10.0.0.2`.
    ///   - peer: the connection's other end. The field counts only when the peer is a trusted proxy, as
    ///     ``ClientAddress/localSocket`` always is.
    package static func find(
        _ field: String, peer: ClientAddress, trusted: [AddressBlock]
    ) -> ClientAddress? {
        let isTrusted = { (address: ClientAddress) in trusted.contains { $0.contains(address) } }
        guard peer == .localSocket || isTrusted(peer) else { return peer }
        var client: ClientAddress?
        for part in field.split(separator: ",").reversed() {
            guard part.contains(where: { $0 != " " && $0 != "\t" }) else { continue }
            guard let address = address(part) else { return client ?? peer }
            client = address
            guard isTrusted(address) else { break }
        }
        return client
    }

    /// An address as proxies write it, possibly with a port.
    private static func address(_ part: Substring) -> ClientAddress? {
        let text = part.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" }
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return ClientAddress(text: text[text.index(after: text.startIndex)..<end])
        }
        if let address = ClientAddress(text: text) { return address }
        return text.firstIndex(of: ":").flatMap { ClientAddress(text: text[..<$0]) }
    }
}
