// A private PgBouncer in front of a PostgreSQL. Only addresses, users and the mode differ from PgBouncer's
// defaults.

import Foundation

package final class Pooler {
    package let port: Int
    private let process: ChildProcess

    /// - Parameter mode: `session`, `transaction` or `statement`; `nil` for PgBouncer's default.
    package init(before server: PostgresServer, mode: String? = nil) throws {
        port = try Ports.free()
        let file = Guardian.shared.folder + "/pgbouncer-\(port).ini"
        let settings = """
            [databases]
            * = host=127.0.0.1 port=\(server.port) user=gavelcast
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = any
            \(mode.map { "pool_mode = \($0)" } ?? "")
            """
        try settings.write(toFile: file, atomically: true, encoding: .utf8)
        process = try ChildProcess("pgbouncer", PostgresServer.unprivileged(["pgbouncer", file]))
        try eventually("the pooler listens") { self.process.log.contains("listening on 127.0.0.1") }
    }

    /// The address of `database` through the pooler.
    package func url(_ database: String) -> String { "postgresql://gavelcast@127.0.0.1:\(port)/\(database)" }
}
