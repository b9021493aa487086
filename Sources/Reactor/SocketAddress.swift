// Internet addresses: `host:port` settings, and what the kernel wants of them.

import CLinux
import Glibc

/// An IPv4 or IPv6 address and port.
package struct SocketAddress: Sendable, CustomStringConvertible {
    package let host: String
    package let port: UInt16

    /// Reads `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `:8080` (all interfaces); `nil` otherwise.
    package init?(text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            return nil
        }
        self.init(host: host.isEmpty ? "0.0.0.0" : host, port: port)
    }

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    // SAFETY: the list and the address in it live until `body` has returned, and are freed here.
    /// Resolves the host (this may ask the name server and block) and calls `body` with the first address.
    func withResolved<Result>(
        _ body: (_ family: Int32, UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var hints = addrinfo()
        hints.ai_socktype = Int32(gavelcast_stream)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &list) == 0, let first = list,
            let address = first.pointee.ai_addr
        else { throw Errno(code: EADDRNOTAVAIL, call: "resolve \(host)") }
        defer { freeaddrinfo(list) }
        return try body(first.pointee.ai_family, UnsafePointer(address), first.pointee.ai_addrlen)
    }

    /// The local address of `descriptor`.
    package static func local(of descriptor: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let found = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard found == 0 else { return nil }
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        let named = withUnsafePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo(
                    $0, length, &host, socklen_t(host.count), &service, socklen_t(service.count),
                    NI_NUMERICHOST | NI_NUMERICSERV)
            }
        }
        guard named == 0 else { return nil }
        let text = { (characters: [CChar]) in
            String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        return UInt16(text(service)).map { SocketAddress(host: text(host), port: $0) }
    }
}
