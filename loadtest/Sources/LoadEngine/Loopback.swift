// Client sockets on the loopback, each from an address of our choice: a source address has about 28,000 ports
// for one destination.

import CLinux
import Glibc
import Reactor

enum Loopback {
    /// IP_BIND_ADDRESS_NO_PORT (linux/in.h): the port is chosen when the destination is known, so that it may
    /// be shared.
    private static let bindAddressNoPort: Int32 = 24

    /// 127.`block`.`last`, in the host's byte order.
    static func address(block: Int, last: Int) -> UInt32 {
        127 << 24 | UInt32(1 + block / 200) << 16 | UInt32(1 + block % 200) << 8 | UInt32(last)
    }

    /// Begins connecting to 127.0.0.1.
    /// - Parameter receiveBufferBytes: for a client that is to be slow.
    static func connect(port: Int, from source: UInt32, receiveBufferBytes: Int?) throws(Errno) -> Int32 {
        let type = gavelcast_stream | gavelcast_nonblocking | gavelcast_cloexec
        let descriptor = socket(AF_INET, Int32(type), 0)
        guard descriptor >= 0 else { throw .last("socket") }
        set(descriptor, Int32(IPPROTO_IP), bindAddressNoPort, 1)
        if let receiveBufferBytes { set(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(receiveBufferBytes)) }
        let bound = withAddress(source, port: 0) { bind(descriptor, $0, $1) }
        let result = withAddress(127 << 24 | 1, port: port) { Glibc.connect(descriptor, $0, $1) }
        guard bound == 0, result == 0 || gavelcast_errno() == EINPROGRESS else {
            let error = Errno.last("connect to port \(port)")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Makes closing break the connection at once, which leaves no port in TIME_WAIT.
    static func resetOnClose(_ descriptor: Int32) {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    // SAFETY: the pointer is valid for the length of `body`.
    private static func withAddress(
        _ host: UInt32, port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = host.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
