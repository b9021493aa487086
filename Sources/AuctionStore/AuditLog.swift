// The log of administrators' actions. The transaction of an action also writes its entry.

package import AuctionEvents

package struct AuditEntry: Sendable {
    package let adminID: String
    /// `cancel`, `extend`, `ban`, `unban`
    package let action: String
    package let auctionID: String?
    package let userID: String?
    package let reason: String
    package let details: String

    init(
        _ adminID: String, _ action: String, auctionID: String? = nil, userID: String? = nil, reason: String,
        details: String = ""
    ) {
        self.adminID = adminID
        self.action = action
        self.auctionID = auctionID
        self.userID = userID
        self.reason = reason
        self.details = details
    }
}

/// An entry as it was stored.
package struct AuditRecord: Sendable {
    package let number: Int64
    package let entry: AuditEntry
    package let at: Timestamp
}

package enum AuditLog {
    static func writing(_ entry: AuditEntry) -> Statement {
        Statement(
            """
            INSERT INTO audit_log (admin_id, action, auction_id, user_id, reason, details)
            VALUES ($1, $2, $3, $4, $5, $6)
            """, [entry.adminID, entry.action, entry.auctionID, entry.userID, entry.reason, entry.details])
    }

    /// At most `limit` entries below `number`, the newest first. The next page begins below `next`, if there
    /// is one.
    package static func page(
        _ connection: PostgresConnection, below number: Int64, limit: Int
    ) throws(DatabaseError) -> (entries: [AuditRecord], next: Int64?) {
        let rows = try connection.query(
            """
            SELECT number, admin_id, action, auction_id, user_id, reason, details,
                \(PostgresText.milliseconds("created_at"))
            FROM audit_log WHERE number < $1::bigint ORDER BY number DESC LIMIT $2::bigint
            """, ["\(number)", "\(limit + 1)"])
        let entries = rows.decode(connection, limit: limit) { row throws(DatabaseError) in
            AuditRecord(
                number: try rows.integer(row, 0),
                entry: AuditEntry(
                    rows.text(row, 1), rows.text(row, 2), auctionID: rows[row, 3], userID: rows[row, 4],
                    reason: rows.text(row, 5), details: rows.text(row, 6)),
                at: try rows.time(row, 7))
        }
        return (entries, rows.count > limit ? try rows.integer(limit - 1, 0) : nil)
    }
}
