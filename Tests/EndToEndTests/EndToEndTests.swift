// Real Redis, real PostgreSQL, real sockets. One after the other, because they share two cores; the parts are
// in the files beside this one.

import LocalServers
import Testing

@Suite(.serialized) struct EndToEndTests {}

/// The cluster that tests share which do not kill it; each takes a database of its own.
enum SharedPostgres {
    static let server = Locked<PostgresBox?>(nil)
    private static let count = Locked(0)

    static func database() throws -> String {
        let number = count.with { count in
            count += 1
            return count
        }
        return try server.with { box in
            if box == nil { box = PostgresBox(server: try PostgresServer()) }
            return try box!.server.database("test_\(number)")
        }
    }
}

/// Lets the cluster's object cross threads; only used under the lock.
struct PostgresBox: Sendable {
    nonisolated(unsafe) let server: PostgresServer
}
