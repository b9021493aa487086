// The schema, as a list of steps that are applied once each, whichever bid API comes first.

package enum Migrations {
    /// Any fixed number; every bid API takes the same lock.
    private static let lockKey = "7301920443"

    /// Brings the database up to date. Concurrent callers wait for each other.
    package static func apply(_ connection: PostgresConnection) throws(DatabaseError) {
        // A step may change millions of rows, and another bid API may already be running it.
        try connection.script("SET statement_timeout = 0; SET lock_timeout = 0")
        try connection.script("SELECT pg_advisory_lock(\(lockKey))")
        do throws(DatabaseError) {
            try applyMissing(connection)
        } catch {
            // Roll back the failed step first. A lost connection releases the lock by itself.
            connection.rollBack()
            if !connection.isBroken { try connection.script("SELECT pg_advisory_unlock(\(lockKey))") }
            throw error
        }
        try connection.script(
            "SELECT pg_advisory_unlock(\(lockKey)); RESET statement_timeout; RESET lock_timeout")
    }

    private static func applyMissing(_ connection: PostgresConnection) throws(DatabaseError) {
        try connection.script(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
                version integer PRIMARY KEY,
                applied_at timestamptz NOT NULL DEFAULT now())
            """)
        let versions = try connection.query("SELECT coalesce(max(version), 0) FROM schema_migrations")
        let newest = Int(try versions.integer(0, 0))
        for (index, step) in steps.enumerated() where index + 1 > newest {
            let note = "INSERT INTO schema_migrations (version) VALUES (\(index + 1))"
            try connection.script("BEGIN; \(String(decoding: step, as: UTF8.self)); \(note); COMMIT")
        }
    }

    /// Never edited once released; a change is a new step.
    private static let steps = [
        PackageResources.v1_auctions_sql, PackageResources.v2_proxy_bids_sql,
        PackageResources.v3_idempotency_keys_sql, PackageResources.v4_people_and_lists_sql,
        PackageResources.v5_currency_decimals_sql, PackageResources.v6_replica_beat_sql,
    ]
}
