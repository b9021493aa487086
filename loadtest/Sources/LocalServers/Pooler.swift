// A private PgBouncer in front of a PostgreSQL. Only addresses, users and the mode differ from PgBouncer's
// defaults.

import Foundation

package final class Pooler {
    package let port: Int
    private let process: ChildProcess

    /// - Parameters:
    ///   - mode: `session`, `transaction` or `statement`; `nil` for PgBouncer's default.
    ///   - connections: to the server, at most; `nil` for PgBouncer's default.
    package convenience init(
        before server: PostgresServer, mode: String? = nil, connections: Int? = nil
    ) throws {
        try self.init(
            """
            [databases]
            * = host=127.0.0.1 port=\(server.port) user=gavelcast
            [pgbouncer]
            \(mode.map { "pool_mode = \($0)" } ?? "")
            \(connections.map { "default_pool_size = \($0)" } ?? "")
            """)
    }

    /// - Parameter settings: a whole configuration. Where it listens and whom it trusts is decided here.
    package init(_ settings: String) throws {
        port = try Ports.free()
        let file = Guardian.shared.folder + "/pgbouncer-\(port).ini"
        // Of several lines with one name, PgBouncer takes the last.
        let settings = """
            \(settings)
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = any

            """
        try settings.write(toFile: file, atomically: true, encoding: .utf8)
        process = try ChildProcess("pgbouncer", PostgresServer.unprivileged(["pgbouncer", file]))
        try eventually("the pooler listens") { self.process.log.contains("listening on 127.0.0.1") }
    }

    /// The address of `database` through the pooler.
    package func url(_ database: String) -> String { "postgresql://gavelcast@127.0.0.1:\(port)/\(database)" }
}
