// A blocking TCP socket with deadlines, with TLS where that is wanted, for clients that do one thing at a
// time: the demo's bidders and the tests.

import CLinux
import Glibc
import Reactor
package import TransportSecurity

package struct SocketFailure: Error, CustomStringConvertible {
    package let description: String
}

package final class BlockingSocket {
    private let descriptor: Int32
    private var isOpen = true
    private var session: TLSSession?

    /// Connects to a numeric IPv4 address.
    /// - Parameters:
    ///   - tls: whom to trust on a connection with TLS; `nil` for a plain one.
    ///   - resetsOnClose: closing breaks the connection at once, and leaves no port in TIME_WAIT.
    package init(
        host: String = "127.0.0.1", port: Int, tls: TLSClientContext? = nil, receiveBufferBytes: Int? = nil,
        resetsOnClose: Bool = false
    ) throws(SocketFailure) {
        descriptor = socket(AF_INET, Int32(gavelcast_stream | gavelcast_cloexec), 0)
        guard descriptor >= 0 else { throw SocketFailure(description: "socket: errno \(errno)") }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        if resetsOnClose {
            var now = linger(l_onoff: 1, l_linger: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        }
        if let receiveBufferBytes {
            var bytes = Int32(receiveBufferBytes)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        inet_pton(AF_INET, host, &address.sin_addr)
        // SAFETY: pointers are used within their closures.
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let code = errno
            close()
            throw SocketFailure(description: "connect to \(host):\(port): \(String(cString: strerror(code)))")
        }
        if let tls { try secure(tls, host: host) }
    }

    /// Makes the TLS handshake.
    private func secure(_ context: TLSClientContext, host: String) throws(SocketFailure) {
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        guard let session = TLSSession(context, host: host, descriptor: descriptor) else {
            throw SocketFailure(description: "TLS: no memory")
        }
        self.session = session
        let fault = try session.completeHandshake { (forWriting) throws(SocketFailure) in
            try wait(forWriting ? POLLOUT : POLLIN)
        }
        if let fault { throw SocketFailure(description: "TLS: \(fault)") }
    }

    private func wait(_ events: Int32) throws(SocketFailure) {
        var target = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        guard poll(&target, 1, 10_000) > 0 else {
            throw SocketFailure(description: "TLS: no answer within 10 s")
        }
    }

    deinit {
        close()
    }
    // SAFETY: the pointers handed to the session are used within their closures.

    package func close() {
        guard isOpen else { return }
        isOpen = false
        session?.free()
        session = nil
        Glibc.close(descriptor)
    }

    package func send(_ bytes: [UInt8]) throws(SocketFailure) {
        var written = 0
        while let session, written < bytes.count {
            let outcome = bytes.withUnsafeBytes {
                session.send(UnsafeRawBufferPointer(rebasing: $0[written...]))
            }
            switch outcome {
            case .bytes(let count): written += count
            case .wouldBlock: try wait(POLLOUT)
            case .closed, .failed: throw SocketFailure(description: "send: the connection is broken")
            }
        }
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + written, bytes.count - written, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else {
                throw SocketFailure(description: "send: \(String(cString: strerror(errno)))")
            }
            written += count
        }
    }

    /// Sends new TLS keys.
    package func renewKeys() throws(SocketFailure) {
        switch session?.renewKeys() {
        case .wouldBlock: try wait(POLLOUT)
        case .bytes: break
        case .closed, .failed, nil: throw SocketFailure(description: "the connection is broken")
        }
    }

    /// Waits up to `milliseconds` for bytes; `nil` when none came, an empty array when the peer closed.
    package func receive(milliseconds: Int) throws(SocketFailure) -> [UInt8]? {
        let deadline = Clock.monotonicMilliseconds() + Int64(milliseconds)
        while let session {
            var buffer = [UInt8](repeating: 0, count: 65_536)
            switch buffer.withUnsafeMutableBytes({ session.receive(into: $0) }) {
            case .bytes(let count): return Array(buffer[..<count])
            case .closed: return []
            case .failed: throw SocketFailure(description: "receive: the connection is broken")
            case .wouldBlock:
                var target = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                let left = deadline - Clock.monotonicMilliseconds()
                guard left > 0, poll(&target, 1, Int32(left)) > 0 else { return nil }
            }
        }
        var target = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&target, 1, Int32(milliseconds)) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count >= 0 else {
            throw SocketFailure(description: "receive: \(String(cString: strerror(errno)))")
        }
        return Array(buffer[..<count])
    }
}
