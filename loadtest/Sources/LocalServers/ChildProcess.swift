// Servers that a test or a load run starts, with posix_spawn: Foundation's Process hands the test runner's
// blocked signals down, and a shell or a service that cannot be signalled hangs. When the starting process
// goes away, however it does, the guardian ends what is left and removes its folders.

import CLinux
import Foundation
import Reactor

package final class ChildProcess {
    package let pid: Int32
    package let logPath: String
    private var status: Int32?

    /// Runs `arguments[0]` with the rest; both outputs go to a log file.
    package init(_ name: String, _ arguments: [String]) throws {
        logPath = Guardian.shared.folder + "/\(name)-\(UUID().uuidString).log"
        pid = try Self.spawn(arguments, input: "/dev/null", output: logPath)
        Guardian.shared.tell("+ \(pid)")
    }

    deinit {
        kill(SIGKILL)
        waitForExit()
    }

    package var log: String { (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? "" }

    package var isRunning: Bool {
        guard status == nil else { return false }
        var raw: Int32 = 0
        if waitpid(pid, &raw, WNOHANG) == pid { finish(raw) }
        return status == nil
    }

    package func kill(_ signal: Int32) {
        guard isRunning else { return }
        _ = Glibc.kill(pid, signal)
    }

    /// Waits for the end and returns the exit status (128 + the signal's number when one ended it).
    @discardableResult
    package func waitForExit() -> Int32 {
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
    static func spawn(_ arguments: [String], input: String?, output: String) throws -> Int32 {
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
        // SAFETY: the strings are copied here, live through the call, and are freed when it has returned.
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let result = posix_spawnp(&pid, arguments[0], &actions, &attributes, &argv, &envp)
        guard result == 0 else {
            throw ServerFailure(
                description: "cannot start \(arguments[0]): \(String(cString: strerror(result)))")
        }
        return pid
    }
}
