// Servers that a test starts, with posix_spawn: Foundation's Process hands the test runner's blocked signals down, and
// a shell or a service that cannot be signalled hangs. When the test process goes away, however it does, the guardian
// ends what is left and removes its folders.

import CLinux
import Foundation
import Reactor
import Testing

final class ChildProcess {
    let pid: Int32
    let logPath: String
    private var status: Int32?

    /// Runs `arguments[0]` with the rest; both outputs go to a log file.
    init(_ name: String, _ arguments: [String]) throws {
        logPath = Guardian.shared.folder + "/\(name)-\(UUID().uuidString).log"
        pid = try Self.spawn(arguments, input: "/dev/null", output: logPath)
        Guardian.shared.tell("+ \(pid)")
    }

    deinit {
        kill(SIGKILL)
        waitForExit()
    }

    var log: String { (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? "" }

    var isRunning: Bool {
        guard status == nil else { return false }
        var raw: Int32 = 0
        if waitpid(pid, &raw, WNOHANG) == pid { finish(raw) }
        return status == nil
    }

    func kill(_ signal: Int32) {
        guard isRunning else { return }
        _ = Glibc.kill(pid, signal)
    }

    /// Waits for the end and returns the exit status (128 + the signal's number when one ended it).
    @discardableResult
    func waitForExit() -> Int32 {
        if status == nil {
            var raw: Int32 = 0
            while waitpid(pid, &raw, 0) != pid {}
            finish(raw)
        }
        return status ?? -1
    }

    private func finish(_ raw: Int32) {
        status = raw & 0x7F == 0 ? (raw >> 8) & 0xFF : 128 + (raw & 0x7F)
        Guardian.shared.tell("- \(pid)")
    }

    /// Starts a program with no signal blocked, in a session of its own.
    fileprivate static func spawn(_ arguments: [String], input: String?, output: String) throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input { posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0) }
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | 0x80  // POSIX_SPAWN_SETSID
        posix_spawnattr_setflags(&attributes, Int16(flags))
        let environment = ProcessInfo.processInfo.environment.map { "\($0)=\($1)" }
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let result = posix_spawnp(&pid, arguments[0], &actions, &attributes, &argv, &envp)
        try #require(result == 0, "cannot start \(arguments[0]): \(String(cString: strerror(result)))")
        return pid
    }
}

/// A shell that outlives the tests by a moment: it is told of every child and folder, and when its input ends it stops
/// the ones that are left.
final class Guardian: Sendable {
    static let shared = Guardian()

    /// Logs and data of this run; removed at its end.
    let folder: String
    private let input: Int32

    private init() {
        folder = "/tmp/gavelcast-test-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o777])
        var ends: [Int32] = [0, 0]
        precondition(pipe(&ends) == 0)
        // The children must not hold the writing end open.
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
        input = ends[1]
        let script = """
            while read -r what pid; do
                case $what in
                    +) left="$left $pid" ;;
                    -) left=$(for one in $left; do [ "$one" = "$pid" ] || printf ' %s' "$one"; done) ;;
                esac
            done
            [ -z "$left" ] || kill -s INT $left 2>/dev/null
            for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                [ -z "$left" ] && break; kill -0 $left 2>/dev/null || break; sleep 0.1
            done
            [ -z "$left" ] || kill -s KILL $left 2>/dev/null
            rm -rf "$1"
            """
        let path = "/proc/self/fd/\(ends[0])"
        do {
            _ = try ChildProcess.spawn(
                ["/bin/sh", "-c", script, "sh", folder], input: path, output: "/dev/null")
        } catch {
            preconditionFailure("no guardian: \(error)")
        }
        close(ends[0])
    }

    func tell(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = write(input, bytes, bytes.count)
    }
}

enum Ports {
    /// A port that nobody listens on now.
    static func free() throws -> Int {
        let listener = try Sockets.listen(on: SocketAddress(host: "127.0.0.1", port: 0), sharesPort: false)
        defer { Sockets.close(listener) }
        return Int(try #require(SocketAddress.local(of: listener)).port)
    }
}

enum Programs {
    /// One of our executables: built beside the tests, or in the folder that GAVELCAST_PROGRAMS names.
    static func path(_ name: String) -> String {
        if let folder = ProcessInfo.processInfo.environment["GAVELCAST_PROGRAMS"] {
            return "\(folder)/\(name)"
        }
        return URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent(
                name
            ).path
    }
}
