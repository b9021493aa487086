import CLinux
import Foundation
import Glibc
import LocalServers
import Testing

/// The units in `config/systemd`, checked by systemd's own tools, and what the services say to systemd.
@Suite struct ServiceFileTests {
    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("config/systemd")

    @Test(
        "systemd accepts the units, and rates them as well protected",
        arguments: ["gavelcast-gateway", "gavelcast-bidapi"])
    func units(program: String) throws {
        // The program is not installed here.
        let unit = try String(
            contentsOf: Self.folder.appendingPathComponent("\(program).service"), encoding: .utf8
        )
        .replacing("/usr/bin/\(program)", with: Programs.path(program))
        let folder = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let path = folder + "/\(program).service"
        try unit.write(toFile: path, atomically: true, encoding: .utf8)
        for arguments in [["verify", "--man=no"], ["security", "--offline=true", "--threshold=25"]] {
            let tool = try ChildProcess("systemd-analyze", ["systemd-analyze"] + arguments + [path])
            #expect(tool.waitForExit() == 0, "\(tool.log)")
            if arguments[0] == "verify" { #expect(!tool.log.contains(program + ".service:"), "\(tool.log)") }
        }
    }

    /// A socket at which systemd would listen.
    private final class Listener {
        let path = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).notify"
        private let descriptor: Int32

        init() throws {
            descriptor = socket(AF_UNIX, Int32(gavelcast_datagram), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            try #require(bound == 0)
            var time = timeval(tv_sec: 20, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        }

        deinit { close(descriptor) }

        func until(_ text: String) throws {
            while true {
                var buffer = [UInt8](repeating: 0, count: 200)
                let count = recv(descriptor, &buffer, buffer.count, 0)
                try #require(count > 0, "systemd was not told \(text)")
                if String(decoding: buffer.prefix(count), as: UTF8.self).contains(text) { return }
            }
        }
    }

    @Test(
        "the gateway tells systemd that it serves, lives and drains; after a hand-over the new process does")
    func gateway() throws {
        let redis = try RedisServer()
        let listener = try Listener()
        let socket = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).sock"
        let launcher = ["/usr/bin/env", "NOTIFY_SOCKET=\(listener.path)", "WATCHDOG_USEC=200000"]
        let arguments = ["--takeover-socket", socket]
        let old = try GatewayProcess(redis: [redis.url], arguments: arguments, launcher: launcher)
        try listener.until("READY=1\nMAINPID=\(old.process.pid)")
        try listener.until("WATCHDOG=1")
        let new = try GatewayProcess(
            redis: [redis.url], arguments: arguments, launcher: launcher, predecessor: old)
        try listener.until("MAINPID=\(new.process.pid)")
        try eventually("the old process ends") { !old.process.isRunning }
        new.process.kill(SIGTERM)
        try listener.until("STOPPING=1")
    }
}
