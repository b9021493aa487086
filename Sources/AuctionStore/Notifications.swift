// Notifications to users. The transaction that causes a notification stores it. The relay pushes it
// afterwards, while it is still news.

package import AuctionEvents
import Bidding

package enum Notifications {
    /// Notifications pushed in one go.
    private static let pushBatch = 500
    /// How long the relay tries to push a notification. After that, it is only in the user's list.
    private static let newsLifetime = "interval '1 minute'"
    private static let keptFor = "interval '90 days'"
    /// The oldest that are looked at in one go.
    private static let pruneBatch = 2_000

    // MARK: Writing

    static func writing(_ changes: [AuctionChange]) -> [Statement] {
        let notices = changes.flatMap { change in change.notices.map { (change.auction.id.text, $0) } }
        var statements: [Statement] = []
        if !notices.isEmpty {
            statements.append(
                Statement(
                    """
                    INSERT INTO notifications (auction_id, user_id, type, amount)
                    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
                    """,
                    [
                        PostgresText.array(notices.map(\.0)), PostgresText.array(notices.map(\.1.userID)),
                        PostgresText.array(notices.map(\.1.kind.rawValue)),
                        PostgresText.array(notices.map { AuctionRecords.minorUnits($0.1.amount) }),
                    ]))
        }
        let ended = changes.filter(\.endsForBidders).map(\.auction)
        if !ended.isEmpty {
            statements.append(
                Statement(
                    """
                    INSERT INTO notifications (auction_id, user_id, type, amount)
                    SELECT DISTINCT b.auction_id, b.bidder_id, '\(Notice.Kind.lost.rawValue)', e.amount
                    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS e (auction_id, winner_id, amount)
                        JOIN bids b USING (auction_id)
                    WHERE b.bidder_id IS DISTINCT FROM e.winner_id
                    """,
                    [
                        PostgresText.array(ended.map(\.id.text)),
                        PostgresText.array(ended.map { $0.status == .sold ? $0.leader?.userID : nil }),
                        PostgresText.array(ended.map { AuctionRecords.minorUnits($0.leader?.amount) }),
                    ]))
        }
        return statements
    }

    // MARK: Reading

    private static let columns = """
        n.number, n.notification_id, n.user_id, n.type, n.amount, n.auction_id, a.title, a.currency,
        \(PostgresText.milliseconds("n.created_at")), a.decimals
        """

    /// A user's notifications with a number below `number`, the newest first. Those of a type that this
    /// version does not know are left out.
    /// - Parameter limit: rows that are read.
    /// - Returns: also the number below which the next page begins; `nil` when there is none.
    package static func page(
        _ connection: PostgresConnection, of userID: String, below number: Int64, limit: Int
    ) throws(DatabaseError) -> (notifications: [UserNotification], next: Int64?) {
        let rows = try connection.query(
            """
            SELECT \(columns) FROM notifications n JOIN auctions a USING (auction_id)
            WHERE n.user_id = $1 AND n.number < $2::bigint ORDER BY n.number DESC LIMIT $3::bigint
            """, [userID, "\(number)", "\(limit + 1)"])
        // The extra row only shows that there is a next page.
        let read = rows.decode(connection, limit: limit) { row throws(DatabaseError) in
            try notification(rows, row)
        }
        return (read, rows.count > limit ? try rows.integer(limit - 1, 0) : nil)
    }

    private static func notification(_ rows: Rows, _ row: Int) throws(DatabaseError) -> UserNotification {
        guard let kind = Notice.Kind(rawValue: rows.text(row, 3)) else {
            throw .unreadable("a notification of type \(rows.text(row, 3))")
        }
        let decimals = try AuctionRecords.decimals(rows, row, 9)
        return UserNotification(
            notificationID: rows.text(row, 1),
            notice: Notice(
                userID: rows.text(row, 2), kind: kind, amount: AuctionRecords.money(rows[row, 4], decimals)),
            auctionID: rows.text(row, 5), title: rows.text(row, 6), currency: rows.text(row, 7),
            createdAt: try rows.time(row, 8))
    }

    // MARK: Pushing

    /// The notifications above `number` that wait to be pushed, and their users. A type that this version
    /// does not know is left to the newer version that wrote it.
    package static func waiting(
        _ connection: PostgresConnection, after number: Int64
    ) throws(DatabaseError) -> [(number: Int64, userID: String)] {
        let rows = try connection.query(
            """
            SELECT number, user_id FROM notifications
            WHERE pushed_at IS NULL AND number > $1::bigint AND created_at > now() - \(newsLifetime)
                AND type = ANY ($2::text[])
            ORDER BY number LIMIT \(pushBatch)
            """, ["\(number)", PostgresText.array(Notice.Kind.allCases.map(\.rawValue))])
        return rows.decode(connection) { row throws(DatabaseError) in
            (try rows.integer(row, 0), rows.text(row, 1))
        }
    }

    /// Takes those of these notifications that no other caller has taken. The caller must push them or give
    /// them back. After a crash in between, a notification is only in the user's list.
    package static func take(
        _ connection: PostgresConnection, _ numbers: [Int64]
    ) throws(DatabaseError) -> [(number: Int64, notification: UserNotification)] {
        let rows = try connection.query(
            """
            WITH taken AS (UPDATE notifications SET pushed_at = now() WHERE number IN (
                SELECT number FROM notifications WHERE number = ANY ($1::bigint[]) AND pushed_at IS NULL
                FOR UPDATE SKIP LOCKED)
                RETURNING *)
            SELECT \(columns) FROM taken n JOIN auctions a USING (auction_id) ORDER BY n.number
            """, [PostgresText.array(numbers)])
        return rows.decode(connection) { row throws(DatabaseError) in
            (try rows.integer(row, 0), try notification(rows, row))
        }
    }

    /// Returns notifications that were taken but could not be pushed.
    package static func giveBack(
        _ connection: PostgresConnection, _ numbers: [Int64]
    ) throws(DatabaseError) {
        try connection.query(
            "UPDATE notifications SET pushed_at = NULL WHERE number = ANY ($1::bigint[])",
            [PostgresText.array(numbers)])
    }

    /// Gives up on notifications that are no longer news, and deletes some old ones. True when there may be
    /// more.
    package static func prune(_ connection: PostgresConnection) throws(DatabaseError) -> Bool {
        try connection.query(
            """
            UPDATE notifications SET pushed_at = now()
            WHERE pushed_at IS NULL AND created_at < now() - \(newsLifetime)
            """)
        return try connection.query(
            """
            DELETE FROM notifications WHERE created_at < now() - \(keptFor)
                AND number IN (SELECT number FROM notifications ORDER BY number LIMIT \(pruneBatch))
            RETURNING 1
            """
        ).count == pruneBatch
    }
}
