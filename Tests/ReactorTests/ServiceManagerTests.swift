import CLinux
import Foundation
import Glibc
import Testing

@testable import Reactor

@Suite struct ServiceManagerTests {
    @Test("systemd hears that the service is ready, alive and stopping; without systemd nothing happens")
    func notifications() throws {
        #expect(ServiceManager(environment: [:]) == nil)
        #expect(ServiceManager(environment: ["NOTIFY_SOCKET": "relative"]) == nil)
        let path = "/tmp/gavelcast-\(UUID().uuidString.prefix(8)).notify"
        let descriptor = socket(AF_UNIX, Int32(gavelcast_datagram), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
        defer {
            Sockets.close(descriptor)
            unlink(path)
        }
        let manager = try #require(
            ServiceManager(environment: ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000"]))
        #expect(manager.watchdogMilliseconds == 1_500)
        func next() -> String {
            var buffer = [UInt8](repeating: 0, count: 200)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        }
        manager.ready()
        #expect(next() == "READY=1\nMAINPID=\(getpid())\nSTATUS=serving")
        manager.alive()
        #expect(next() == "WATCHDOG=1")
        manager.stopping()
        #expect(next() == "STOPPING=1\nSTATUS=draining")
        let other = try #require(
            ServiceManager(environment: ["NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "0"]))
        #expect(other.watchdogMilliseconds == nil)
        other.ready()
    }
}
