// A Unix socket between two processes of one machine, over which messages travel together with descriptors.
// Calls block, so none belongs on a loop's thread. Each message is a head of fixed length, with which the
// descriptors come, and its bytes.

import CLinux
import Glibc

package final class DescriptorSocket: Sendable {
    /// The most descriptors in one message.
    package static let mostDescriptors = Int(gavelcast_most_descriptors)
    private static let headBytes = 8

    /// A received message. The receiver owns the descriptors.
    package struct Message {
        package let bytes: [UInt8]
        package let descriptors: [Int32]

        package init(bytes: [UInt8], descriptors: [Int32]) {
            self.bytes = bytes
            self.descriptors = descriptors
        }
    }

    private let socket: Int32

    private init(_ socket: Int32) {
        self.socket = socket
    }

    deinit {
        Sockets.close(socket)
    }

    // MARK: Connecting

    /// Listens at `address`, which must have a path, in place of a socket that is there. Only this user may
    /// connect. A connection that waits at the replaced socket stays with it.
    /// - Throws: EEXIST when there is a file that is not a socket.
    package static func listen(on address: SocketAddress) throws(Errno) -> Int32 {
        guard let path = address.path else { throw Errno(code: EINVAL, call: "listen on \(address)") }
        var status = stat()
        guard lstat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFSOCK else {
            throw Errno(code: EEXIST, call: "listen on \(address)")
        }
        // The file gets its place when everything is ready, in one step.
        let newPath = path + ".new"
        guard let newAddress = SocketAddress(path: newPath) else {
            throw Errno(code: ENAMETOOLONG, call: "listen on \(address)")
        }
        unlink(newPath)
        let listener = try Sockets.listen(on: newAddress, sharesPort: false)
        setBlocking(listener)
        guard chmod(newPath, 0o600) == 0, rename(newPath, path) == 0 else {
            let error = Errno.last("listen on \(address)")
            Sockets.close(listener)
            throw error
        }
        return listener
    }

    /// Waits for a connection to a listener; `nil` when the attempt failed.
    package static func accept(_ listener: Int32) -> DescriptorSocket? {
        let descriptor = accept4(listener, nil, nil, Int32(gavelcast_cloexec))
        return descriptor < 0 ? nil : DescriptorSocket(descriptor)
    }

    /// Connects to the socket at `address`; `nil` when nobody listens there.
    package static func connect(to address: SocketAddress) throws(Errno) -> DescriptorSocket? {
        let descriptor = Glibc.socket(AF_UNIX, Int32(gavelcast_stream | gavelcast_cloexec), 0)
        guard descriptor >= 0 else { throw .last("connect to \(address)") }
        let isConnected =
            try address.resolve()[0].withPointer { Glibc.connect(descriptor, $0, $1) } == 0
        guard !isConnected else { return DescriptorSocket(descriptor) }
        let error = Errno.last("connect to \(address)")
        Sockets.close(descriptor)
        guard error.code == ENOENT || error.code == ECONNREFUSED else { throw error }
        return nil
    }

    /// Makes calls fail with EAGAIN when the other side does nothing for so long.
    package func setPatience(seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }

    /// The process at the other end, and its user; `nil` when that cannot be known.
    package var peer: (process: Int32, user: UInt32)? {
        var (process, user) = (pid_t(), uid_t())
        return gavelcast_peer(socket, &process, &user) == 0 ? (process, user) : nil
    }

    private static func setBlocking(_ descriptor: Int32) {
        let flags = fcntl(descriptor, F_GETFL, 0)
        _ = fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK)
    }

    /// Repeats a call that a signal interrupted. On a socket with a timeout, stopping and continuing the
    /// process also interrupts the call.
    private static func uninterrupted(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            if result >= 0 || gavelcast_errno() != EINTR { return result }
        }
    }

    /// Ends the conversation. The other side can send nothing more. What it has sent can still be received.
    package func hangUp() {
        _ = shutdown(socket, Int32(SHUT_RDWR))
    }

    /// True once the other side has closed and everything that it sent was received.
    package var hasEnded: Bool {
        var byte: UInt8 = 0
        return recv(socket, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) == 0
    }

    // MARK: Messages

    /// Sends a message. The receiver gets copies of the descriptors, and the caller keeps its own.
    package func send(_ bytes: [UInt8], descriptors: [Int32] = []) throws(Errno) {
        precondition(descriptors.count <= Self.mostDescriptors, "too many descriptors in one message")
        let head = withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { Array($0) }
        let sent = Self.uninterrupted {
            gavelcast_send_descriptors(socket, head, head.count, descriptors, descriptors.count)
        }
        guard sent == head.count else { throw .last("send to the other process") }
        var position = 0
        while position < bytes.count {
            // SAFETY: the pointer is used within the call only.
            let count = bytes.withUnsafeBytes { bytes in
                Self.uninterrupted {
                    Glibc.send(
                        socket, bytes.baseAddress?.advanced(by: position), bytes.count - position,
                        Int32(MSG_NOSIGNAL))
                }
            }
            guard count > 0 else { throw .last("send to the other process") }
            position += count
        }
    }

    /// Waits for the next message; `nil` when the other side has closed.
    /// - Parameter limit: the longest message.
    package func receive(atMost limit: Int) throws(Errno) -> Message? {
        var head = [UInt8](repeating: 0, count: Self.headBytes)
        var descriptors = [Int32](repeating: -1, count: Self.mostDescriptors)
        var descriptorCount = 0
        var isCut: Int32 = 0
        let received = Self.uninterrupted {
            gavelcast_receive_descriptors(
                socket, &head, head.count, &descriptors, &descriptorCount, &isCut)
        }
        descriptors.removeLast(descriptors.count - descriptorCount)
        do throws(Errno) {
            guard received != 0 else { return nil }
            guard received > 0 else { throw .last("receive from the other process") }
            guard isCut == 0 else { throw Errno(code: EMFILE, call: "receive from the other process") }
            let length = head.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            guard received == head.count, length <= UInt64(limit) else {
                throw Errno(code: EBADMSG, call: "receive from the other process")
            }
            return Message(bytes: try receive(count: Int(length)), descriptors: descriptors)
        } catch {
            for descriptor in descriptors { Sockets.close(descriptor) }
            throw error
        }
    }

    private func receive(count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var position = 0
        while position < count {
            // SAFETY: the pointer is used within the call only.
            let received = bytes.withUnsafeMutableBytes { bytes in
                Self.uninterrupted {
                    recv(socket, bytes.baseAddress?.advanced(by: position), count - position, 0)
                }
            }
            guard received != 0 else { throw Errno(code: ECONNRESET, call: "receive from the other process") }
            guard received > 0 else { throw .last("receive from the other process") }
            position += received
        }
        return bytes
    }
}
