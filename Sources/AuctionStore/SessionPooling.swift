// Finds out whether a pooler between us and PostgreSQL gives each transaction another session. The bid API
// needs a session of its own for prepared statements and session settings.

package enum SessionPooling {
    /// How many times the sessions are compared. One comparison may match by chance.
    private static let rounds = 3

    private static let reason = """
        database-url: a pooler gives each transaction another session; use session pooling \
        (PgBouncer: pool_mode = session) or connect to PostgreSQL directly
        """

    /// Why the database cannot be used; `nil` when sessions stay whole.
    package static func fault(_ servers: DatabaseServers) throws(DatabaseError) -> String? {
        do throws(DatabaseError) {
            let (first, second) = (try PostgresConnection(servers), try PostgresConnection(servers))
            for _ in 0..<rounds {
                let before = try session(first)
                _ = try second.simple("BEGIN")
                // A session that is ours in one connection must not serve the other one.
                guard try session(second) != before else { return reason }
                // While the second connection holds a session, a pooler must find another one for the first.
                guard try session(first) == before else { return reason }
                _ = try second.simple("ROLLBACK")
            }
            return nil
        } catch {
            // "transaction blocks not allowed in statement pooling mode"
            guard error.description.contains("statement pooling") else { throw error }
            return reason
        }
    }

    private static func session(_ connection: PostgresConnection) throws(DatabaseError) -> String {
        try connection.simple("SELECT pg_backend_pid()").text(0, 0)
    }
}
