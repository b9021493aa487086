// The few socket calls the loops make: listening, accepting, connecting, sending, receiving. Each returns the
// kernel's answer as a value; EBADF and EFAULT are our own bugs and trap.

import CLinux
import Glibc

package enum Sockets {
    /// What a non-blocking call on a socket came to.
    package enum Outcome: Equatable, Sendable {
        /// Bytes transferred, at least 1.
        case bytes(Int)
        /// Nothing can be transferred now.
        case wouldBlock
        /// The peer closed its side (receiving only).
        case closed
        /// The connection is broken.
        case failed(Int32)
    }

    /// A non-blocking listening socket, on the first address of a name. What it accepts inherits its options:
    /// no Nagle delay, and the send buffer. A Unix socket replaces one that nobody listens on any more.
    /// - Parameters:
    ///   - sharesPort: sets SO_REUSEPORT; every listener on the port must set it.
    ///   - sendBufferBytes: of each accepted connection; `nil` leaves it to the kernel, which lets it grow.
    package static func listen(
        on address: SocketAddress, sharesPort: Bool, sendBufferBytes: Int? = nil
    ) throws(Errno) -> Int32 {
        let resolved = try address.resolve()[0]
        if let path = address.path { try removeAbandoned(path, resolved) }
        let descriptor: Int32
        do throws(Errno) {
            descriptor = try stream(resolved.family)
        } catch {
            // A system without IPv6.
            guard address.host == "*", error.code == EAFNOSUPPORT else { throw error }
            return try listen(
                on: SocketAddress(host: "0.0.0.0", port: address.port), sharesPort: sharesPort,
                sendBufferBytes: sendBufferBytes)
        }
        if address.host == "*" { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        if let sendBufferBytes {
            setOption(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(clamping: sendBufferBytes))
        }
        if sharesPort { setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
        let isBound = resolved.withPointer { bind(descriptor, $0, $1) } == 0
        guard isBound, Glibc.listen(descriptor, 4_096) == 0 else {
            let error = Errno.last("listen on \(address)")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Removes the file of a Unix socket that nobody listens on. A killed listener leaves it behind.
    /// - Throws: EEXIST when the file is not a socket.
    private static func removeAbandoned(_ path: String, _ address: ResolvedAddress) throws(Errno) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        // A file that is not a socket is not ours to remove.
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw Errno(code: EEXIST, call: "listen on unix:\(path)")
        }
        if try isAbandoned(address) { unlink(path) }
    }

    /// True when nobody listens on a Unix socket's file.
    static func isAbandoned(_ address: ResolvedAddress) throws(Errno) -> Bool {
        let descriptor = try stream(AF_UNIX)
        defer { close(descriptor) }
        let isInUse = address.withPointer { Glibc.connect(descriptor, $0, $1) } == 0
        return !isInUse && gavelcast_errno() == ECONNREFUSED
    }

    /// A second descriptor of a listening socket, for another loop.
    package static func duplicate(_ listener: Int32) throws(Errno) -> Int32 {
        let descriptor = fcntl(listener, F_DUPFD_CLOEXEC, 0)
        guard descriptor >= 0 else { throw .last("duplicate a listener") }
        return descriptor
    }

    /// Begins connecting; the socket is writable when that has ended, and ``pendingError(_:)`` tells how.
    package static func connect(to address: ResolvedAddress) throws(Errno) -> Int32 {
        let descriptor = try stream(address.family)
        setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        let isBegun = address.withPointer { Glibc.connect(descriptor, $0, $1) } == 0
        guard isBegun || gavelcast_errno() == EINPROGRESS else {
            let error = Errno.last("connect")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// The error a finished connect or a broken socket holds; 0 when there is none.
    package static func pendingError(_ descriptor: Int32) -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        return code
    }

    /// Accepts one connection, non-blocking; `nil` when none waits.
    package static func accept(_ listener: Int32) throws(Errno) -> Int32? {
        let flags = Int32(gavelcast_nonblocking | gavelcast_cloexec)
        let descriptor = accept4(listener, nil, nil, flags)
        if descriptor >= 0 { return descriptor }
        switch gavelcast_errno() {
        case EAGAIN, EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, ENETUNREACH: return nil
        default: throw .last("accept")
        }
    }

    // SAFETY: the kernel writes at most the storage's size, within the call.
    /// The address of a connection's peer; `nil` when the connection is already gone.
    package static func peer(of descriptor: Int32) -> ClientAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let found = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
        }
        return found == 0 ? ClientAddress(storage) : nil
    }

    /// Breaks the connection when sent data stays unacknowledged for this long (TCP_USER_TIMEOUT).
    package static func setUserTimeout(_ descriptor: Int32, seconds: Int) {
        setOption(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Int32(clamping: seconds * 1_000))
    }

    // SAFETY: in send and receive the buffer is the caller's and is used for the length of the system call
    // only.
    package static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Outcome {
        outcome(Glibc.send(descriptor, bytes.baseAddress, bytes.count, gavelcast_send_flags()))
    }

    package static func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
        let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
        return count == 0 ? .closed : outcome(count)
    }

    /// Tells the peer that nothing more comes.
    package static func shutdownWriting(_ descriptor: Int32) {
        _ = shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Ends the connection, also where another process holds it too.
    package static func shutDown(_ descriptor: Int32) {
        _ = shutdown(descriptor, Int32(SHUT_RDWR))
    }

    package static func close(_ descriptor: Int32) {
        let result = Glibc.close(descriptor)
        precondition(result == 0 || gavelcast_errno() != EBADF, "close of descriptor \(descriptor)")
    }

    private static func stream(_ family: Int32) throws(Errno) -> Int32 {
        let type = gavelcast_stream | gavelcast_nonblocking | gavelcast_cloexec
        let descriptor = socket(family, Int32(type), 0)
        guard descriptor >= 0 else { throw .last("socket") }
        return descriptor
    }

    private static func setOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        let result = setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
        precondition(result == 0 || gavelcast_errno() != EBADF, "setsockopt on descriptor \(descriptor)")
    }

    /// True when the failure of a socket call passes: the same call may succeed once the poller reports the
    /// socket. The kernel also answers ENOBUFS when it is short of memory for the socket's buffer.
    package static func isTemporary(_ code: Int32) -> Bool {
        code == EAGAIN || code == EINTR || code == ENOBUFS
    }

    private static func outcome(_ count: Int) -> Outcome {
        if count > 0 { return .bytes(count) }
        let code = gavelcast_errno()
        switch code {
        case _ where isTemporary(code): return .wouldBlock
        case EBADF, EFAULT, ENOTSOCK: preconditionFailure("socket call: errno \(code)")
        default: return .failed(code)
        }
    }
}

/// The process's limit on open files.
package enum DescriptorLimit {
    /// Raises the soft limit to the hard one and returns it.
    package static func raise() -> Int {
        var limit = rlimit()
        guard gavelcast_rlimit_descriptors(&limit) == 0 else { return 1_024 }
        limit.rlim_cur = limit.rlim_max
        _ = gavelcast_set_rlimit_descriptors(&limit)
        _ = gavelcast_rlimit_descriptors(&limit)
        return Int(clamping: limit.rlim_cur)
    }
}
