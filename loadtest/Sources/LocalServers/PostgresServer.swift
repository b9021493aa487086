// A private PostgreSQL cluster that its owner may kill and start again. As root it runs as the user
// `postgres`, because PostgreSQL refuses root.

import AuctionStore
import Foundation

package final class PostgresServer {
    package let port: Int
    private let directory: String
    private let bin: String
    private var process: ChildProcess?

    package init() throws {
        port = try Ports.free()
        bin = try Self.programs()
        directory = try Self.makeDirectory()
        let initdb = try ChildProcess(
            "initdb",
            Self.unprivileged([
                "\(bin)/initdb", "-D", "\(directory)/data", "-U", "gavelcast", "-A", "trust", "-E", "UTF8",
                "--no-locale",
            ]))
        guard initdb.waitForExit() == 0 else { throw ServerFailure(description: initdb.log) }
        try start()
    }

    /// A new folder that the unprivileged user may write to.
    private static func makeDirectory() throws -> String {
        let directory = Guardian.shared.folder + "/postgres-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        if getuid() == 0 {
            let chown = try ChildProcess("chown", ["chown", "postgres:", directory])
            guard chown.waitForExit() == 0 else { throw ServerFailure(description: chown.log) }
        }
        return directory
    }

    /// A standby that follows `primary`, until ``promote()``.
    package init(standbyOf primary: PostgresServer) throws {
        port = try Ports.free()
        bin = primary.bin
        directory = try Self.makeDirectory()
        let copy = try ChildProcess(
            "pg_basebackup",
            Self.unprivileged([
                "\(bin)/pg_basebackup", "-D", "\(directory)/data", "-R", "-c", "fast", "-h", "127.0.0.1",
                "-p",
                "\(primary.port)", "-U", "gavelcast",
            ]))
        guard copy.waitForExit() == 0 else { throw ServerFailure(description: copy.log) }
        try start()
    }

    /// Makes a standby a primary.
    package func promote() throws {
        try PostgresConnection(url: readingURL("postgres")).query("SELECT pg_promote()")
    }

    /// Changes a setting for good; the server reads it at once.
    package func set(_ name: String, _ value: String) throws {
        let connection = try PostgresConnection(url: readingURL("postgres"))
        // Not replicated, and possible on a server that takes no writes.
        try connection.script("ALTER SYSTEM SET \(name) = '\(value)'")
        try connection.script("SELECT pg_reload_conf()")
    }

    /// From now on, a COMMIT waits until a standby has it.
    package func requireStandby() throws {
        try set("synchronous_standby_names", "*")
        try eventually("the standby is synchronous") {
            try PostgresConnection(url: self.readingURL("postgres")).query(
                "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            ).count == 1
        }
    }

    /// An address at which a server that takes no writes is welcome too.
    package func readingURL(_ database: String) -> String { url(database) + "?target_session_attrs=any" }

    deinit {
        kill()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// - Parameter arguments: more settings, as `postgres` takes them.
    package func start(arguments: [String] = []) throws {
        try eventually("PostgreSQL answers", within: 60) {
            // It ends at once while children of one that was killed are still there.
            if process?.isRunning != true {
                process = try ChildProcess(
                    "postgres",
                    Self.unprivileged(
                        [
                            "\(bin)/postgres", "-D", "\(directory)/data", "-p", "\(port)", "-c",
                            "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c",
                            "max_connections=60",
                        ] + arguments))
            }
            return (try? PostgresConnection(url: self.readingURL("postgres")).query("SELECT 1")) != nil
        }
    }

    /// Ends it as a power cut would, but for the disk.
    package func kill() {
        process?.kill(SIGKILL)
        process?.waitForExit()
        process = nil
        // The killed parent leaves children and a lock file that names it; a new start checks both.
        try? eventually("PostgreSQL is gone") {
            (try? PostgresConnection(url: self.readingURL("postgres"))) == nil
        }
    }

    /// Shuts it down as `pg_ctl stop -m immediate` does: connections are cut, and the next start recovers.
    package func stopImmediately() {
        process?.kill(SIGQUIT)
        process?.waitForExit()
        process = nil
    }

    /// Stops (SIGSTOP) or continues (SIGCONT) all of its processes: connections stay open, and nobody
    /// answers.
    package func signal(_ signal: Int32) {
        guard let parent = process?.pid else { return }
        let children = try? String(contentsOfFile: "/proc/\(parent)/task/\(parent)/children", encoding: .utf8)
        for pid in [parent] + (children ?? "").split(separator: " ").compactMap({ Int32($0) }) {
            _ = Glibc.kill(pid, signal)
        }
    }

    /// The address of database `name`, which is made if need be.
    package func database(_ name: String) throws -> String {
        let connection = try PostgresConnection(url: url("postgres"))
        try connection.script("CREATE DATABASE \(name)")
        return url(name)
    }

    private func url(_ database: String) -> String { "postgresql://gavelcast@127.0.0.1:\(port)/\(database)" }

    /// A command as a user that PostgreSQL accepts.
    static func unprivileged(_ arguments: [String]) -> [String] {
        guard getuid() == 0 else { return arguments }
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "-C", "/tmp"]
            + arguments
    }

    private static func programs() throws -> String {
        let base = "/usr/lib/postgresql"
        let versions = try FileManager.default.contentsOfDirectory(atPath: base).compactMap { Int($0) }
        guard let newest = versions.max() else {
            throw ServerFailure(description: "no PostgreSQL under \(base); make setup installs it")
        }
        return "\(base)/\(newest)/bin"
    }
}
