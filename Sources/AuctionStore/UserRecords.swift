// Users: registering, signing in, and the facts that a bid needs about its bidder.

package struct UserRecord: Sendable {
    package let userID: String
    package let username: String
    package let passwordHash: String
    package let role: String
    package let isBanned: Bool

    package var isAdmin: Bool { role == "admin" }
}

package enum UserRecords {
    private static let columns = "user_id, username, password_hash, role, banned_at IS NOT NULL"

    /// Throws ``DatabaseError/conflict(constraint:)`` with `users_username` or `users_email` when one is
    /// taken.
    package static func insert(
        _ connection: PostgresConnection, userID: String, username: String, email: String,
        passwordHash: String
    ) throws(DatabaseError) {
        try connection.query(
            "INSERT INTO users (user_id, username, email, password_hash) VALUES ($1, $2, $3, $4)",
            [userID, username, email, passwordHash])
    }

    /// Finds by user name or email address, without regard to case.
    package static func find(
        _ connection: PostgresConnection, login: String
    ) throws(DatabaseError) -> UserRecord? {
        let rows = try connection.query(
            "SELECT \(columns) FROM users WHERE lower(username) = lower($1) OR lower(email) = lower($1) LIMIT 1",
            [login])
        return rows.isEmpty ? nil : record(rows, 0)
    }

    /// What a user must be for a request.
    package enum Role: Sendable {
        case user, admin
    }

    package enum Refusal: Error, Sendable {
        case unknown
        case banned
        case notAdmin
    }

    /// Why the one user that was passed to ``byIDs(_:)`` may not act; `nil` when the user may.
    static func refusal(_ rows: Rows, _ role: Role) -> Refusal? {
        guard !rows.isEmpty else { return .unknown }
        let user = record(rows, 0)
        if user.isBanned { return .banned }
        return role == .admin && !user.isAdmin ? .notAdmin : nil
    }

    /// Why `userID` may not act; `nil` when nothing is in the way.
    package static func refusal(
        _ connection: PostgresConnection, _ userID: String, _ role: Role
    ) throws(DatabaseError) -> Refusal? {
        let statement = byIDs([userID])
        return refusal(try connection.query(statement.sql, statement.parameters), role)
    }

    package enum BanOutcome: Sendable {
        case done(UserRecord)
        case unknownUser
        case refused(Refusal)
    }

    /// Bans a user, or lifts the ban, and notes who did it.
    package static func ban(
        _ connection: PostgresConnection, _ userID: String, isBanned: Bool, by adminID: String, reason: String
    ) throws(DatabaseError) -> BanOutcome {
        try connection.transaction { () throws(DatabaseError) in
            if let refusal = try refusal(connection, adminID, .admin) { return .refused(refusal) }
            let rows = try connection.query(
                """
                UPDATE users SET banned_at = CASE WHEN $2 = 'ban' THEN coalesce(banned_at, now()) END
                WHERE user_id = $1 RETURNING \(columns)
                """, [userID, isBanned ? "ban" : "unban"])
            guard !rows.isEmpty else { return .unknownUser }
            let entry = AuditEntry(adminID, isBanned ? "ban" : "unban", userID: userID, reason: reason)
            _ = try connection.pipeline([AuditLog.writing(entry)])
            return .done(record(rows, 0))
        }
    }

    static func byIDs(_ userIDs: [String]) -> Statement {
        Statement(
            "SELECT \(columns) FROM users WHERE user_id = ANY ($1::text[])", [PostgresText.array(userIDs)])
    }

    static func record(_ rows: Rows, _ row: Int) -> UserRecord {
        UserRecord(
            userID: rows.text(row, 0), username: rows.text(row, 1), passwordHash: rows.text(row, 2),
            role: rows.text(row, 3), isBanned: rows.text(row, 4) == "t")
    }
}
