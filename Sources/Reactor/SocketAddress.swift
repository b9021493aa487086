// Addresses of sockets: `host:port` and `unix:/path` settings, and what the kernel wants of them.

import CLinux
import Glibc

/// An address and port as the kernel takes them.
package struct ResolvedAddress: Sendable, Equatable {
    let family: Int32
    /// A `sockaddr` of that family.
    private let bytes: [UInt8]

    fileprivate init(family: Int32, bytes: [UInt8]) {
        self.family = family
        self.bytes = bytes
    }

    /// A Unix socket's address.
    fileprivate init(path: String) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        self.init(family: AF_UNIX, bytes: withUnsafeBytes(of: address) { Array($0) })
    }

    // SAFETY: the bytes are a whole `sockaddr`, and live until `body` has returned.
    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        bytes.withUnsafeBytes {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }
}

/// A host, which may be a name, and a port; or the path of a Unix socket.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
    /// Empty for a Unix socket.
    package let host: String
    /// 0 for a Unix socket.
    package let port: UInt16
    /// The path of a Unix socket; `nil` for an internet address.
    package let path: String?

    /// The longest path of a Unix socket, in bytes; the kernel adds a zero byte.
    private static let longestPath = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    /// Reads `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `*:8080` (all interfaces, IPv4 and IPv6),
    /// `:8080` (all of IPv4) or `unix:/path`; `nil` otherwise.
    package init?(text: String) {
        if text.hasPrefix("unix:") {
            self.init(path: String(text.dropFirst("unix:".count)))
            return
        }
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
        path = nil
    }

    /// The address of a Unix socket; `nil` when `path` is not absolute, or too long for the kernel.
    package init?(path: String) {
        guard path.hasPrefix("/"), path.utf8.count <= Self.longestPath, !path.utf8.contains(0) else {
            return nil
        }
        host = ""
        port = 0
        self.path = path
    }

    /// The host as a socket is bound to it.
    package var bindHost: String { host == "*" ? "::" : host }

    package var description: String {
        if let path { return "unix:\(path)" }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// The host's addresses, at least one, in the order in which they are to be tried. For a name the name
    /// server is asked, which may take seconds: not on a loop's thread.
    package func resolve() throws(Errno) -> [ResolvedAddress] {
        let addresses = addresses(flags: 0)
        guard !addresses.isEmpty else { throw Errno(code: EADDRNOTAVAIL, call: "resolve \(host)") }
        return addresses
    }

    /// The address itself, when the host is one and no name.
    var numeric: ResolvedAddress? { addresses(flags: AI_NUMERICHOST).first }

    // SAFETY: the list and the addresses in it are copied from before they are freed here.
    private func addresses(flags: Int32) -> [ResolvedAddress] {
        if let path { return [ResolvedAddress(path: path)] }
        var hints = addrinfo()
        hints.ai_socktype = Int32(gavelcast_stream)
        hints.ai_flags = flags
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(bindHost, "\(port)", &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var addresses: [ResolvedAddress] = []
        var entry = list
        while let found = entry?.pointee {
            if let address = found.ai_addr {
                let bytes = UnsafeRawBufferPointer(start: address, count: Int(found.ai_addrlen))
                addresses.append(ResolvedAddress(family: found.ai_family, bytes: Array(bytes)))
            }
            entry = found.ai_next
        }
        return addresses
    }

    /// The local address of `descriptor`.
    package static func local(of descriptor: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let found = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard found == 0 else { return nil }
        if Int32(storage.ss_family) == AF_UNIX { return local(unix: storage) }
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

    private static func local(unix storage: sockaddr_storage) -> SocketAddress? {
        let bytes = withUnsafeBytes(of: storage) { Array($0) }
        let start = MemoryLayout<sockaddr_un>.offset(of: \sockaddr_un.sun_path)!
        return SocketAddress(path: String(decoding: bytes[start...].prefix { $0 != 0 }, as: UTF8.self))
    }
}
