// Tells systemd how the service is (sd_notify): ready, stopping, alive. Without systemd, all of this does
// nothing. The protocol is a datagram of text to the socket that `NOTIFY_SOCKET` names.

import CLinux
import Glibc

package struct ServiceManager: Sendable {
    private let path: String
    /// How often systemd wants a sign of life, in microseconds; `nil` when it wants none of this process.
    private let watchdogMicroseconds: Int64?

    /// - Parameter environment: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` for a watchdog. `nil` without systemd.
    package init?(environment: [String: String]) {
        guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@") else {
            return nil
        }
        self.path = path
        // A process that took over has another id than the one that systemd started.
        watchdogMicroseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) }.flatMap {
            $0 > 0 ? $0 : nil
        }
    }

    /// How long the service may wait between two signs of life, in milliseconds: half of what systemd allows.
    package var watchdogMilliseconds: Int64? { watchdogMicroseconds.map { max(1, $0 / 2_000) } }

    /// The service listens, as the main process.
    package func ready() {
        send("READY=1\nMAINPID=\(getpid())\nSTATUS=serving")
    }

    package func stopping() {
        send("STOPPING=1\nSTATUS=draining")
    }

    package func alive() {
        send("WATCHDOG=1")
    }

    // A service manager that does not listen is no reason to fail.
    private func send(_ text: String) {
        let descriptor = socket(AF_UNIX, Int32(gavelcast_datagram | gavelcast_cloexec), 0)
        guard descriptor >= 0 else { return }
        defer { Sockets.close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array(path.utf8)
        guard name.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        // An abstract name begins with a zero byte.
        if name[0] == UInt8(ascii: "@") { name[0] = 0 }
        // SAFETY: the name fits, and the address lives until the call has returned.
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let length = MemoryLayout<sockaddr_un>.offset(of: \sockaddr_un.sun_path)! + name.count
        let bytes = Array(text.utf8)
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                _ = sendto(
                    descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), pointer, socklen_t(length))
            }
        }
    }
}
