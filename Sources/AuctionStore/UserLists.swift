// What belongs to one user: the own bids and the watchlist.

package import AuctionEvents

/// One of a user's bids, with what has become of its auction.
package struct UserBid: Sendable {
    package let bid: BidRow
    package let auctionID: String
    package let title: String
    package let status: String
    package let currency: String
    package let currentPrice: Money
    package let endsAt: Timestamp
    /// True while this bid leads, and after it has won.
    package let isHighest: Bool
}

package enum UserLists {
    package static func bids(
        _ connection: PostgresConnection, of userID: String, after cursor: PageCursor?, limit: Int
    ) throws(DatabaseError) -> Page<UserBid> {
        let begin = "(b.bid_at, b.bid_id) < (\(PostgresText.timeInMicroseconds("$3")), $4)"
        let rows = try connection.query(
            """
            SELECT b.bid_id, b.bidder, b.amount, \(PostgresText.milliseconds("b.bid_at")), b.is_proxy, b.seq,
                a.decimals, a.auction_id, a.title, a.status, a.currency, a.current_price,
                \(PostgresText.milliseconds("a.ends_at")), b.amount = a.current_price
            FROM bids b JOIN auctions a USING (auction_id)
            WHERE b.bidder_id = $1 \(cursor == nil ? "" : "AND \(begin)")
            ORDER BY b.bid_at DESC, b.bid_id DESC LIMIT $2::bigint
            """, [userID, "\(limit + 1)"] + (cursor.map { ["\($0.key)", $0.id] } ?? []))
        let bids = rows.decode(connection, limit: limit) { row throws(DatabaseError) in
            let bid = try BidHistory.bid(rows, row)
            return UserBid(
                bid: bid, auctionID: rows.text(row, 7), title: rows.text(row, 8), status: rows.text(row, 9),
                currency: rows.text(row, 10),
                currentPrice: Money(minorUnits: try rows.integer(row, 11), decimals: bid.amount.decimals),
                endsAt: try rows.time(row, 12), isHighest: rows.text(row, 13) == "t")
        }
        guard rows.count > limit else { return Page(rows: bids, next: nil) }
        // A bid's moment is stored in whole milliseconds.
        let (key, isTooLarge) = try rows.integer(limit - 1, 3).multipliedReportingOverflow(by: 1_000)
        guard !isTooLarge else { throw .unreadable("the time of bid \(rows.text(limit - 1, 0))") }
        return Page(rows: bids, next: PageCursor(key: key, id: rows.text(limit - 1, 0)))
    }

    /// The most auctions that one user may watch.
    package static let watchlistLimit = 1_000

    package enum WatchRefusal: Error, Sendable {
        case unknownAuction
        case listIsFull
    }

    /// Adds an auction. One that is already on the list keeps its place. `nil` when it is on the list
    /// afterwards.
    package static func watch(
        _ connection: PostgresConnection, _ id: AuctionID, by userID: String
    ) throws(DatabaseError) -> WatchRefusal? {
        let rows = try connection.pipeline([
            Statement(
                """
                INSERT INTO watchlist (user_id, auction_id)
                SELECT u.user_id, a.auction_id FROM users u, auctions a
                WHERE u.user_id = $1 AND a.auction_id = $2
                    AND (SELECT count(*) FROM watchlist WHERE user_id = $1) < \(watchlistLimit)
                ON CONFLICT DO NOTHING
                """, [userID, id.text]),
            Statement("SELECT 1 FROM watchlist WHERE user_id = $1 AND auction_id = $2", [userID, id.text]),
            Statement("SELECT 1 FROM auctions WHERE auction_id = $1", [id.text]),
        ])
        if !rows[1].isEmpty { return nil }
        return rows[2].isEmpty ? .unknownAuction : .listIsFull
    }

    /// Takes an auction from the list, if it is there.
    package static func unwatch(
        _ connection: PostgresConnection, _ id: AuctionID, by userID: String
    ) throws(DatabaseError) {
        try connection.query(
            "DELETE FROM watchlist WHERE user_id = $1 AND auction_id = $2", [userID, id.text])
    }
}
