// Reading the bids of an auction, newest first.

package import AuctionEvents

package struct BidRow: Sendable {
    package let bidID: String
    package let bidder: String
    package let amount: Money
    package let bidAt: Timestamp
    package let isProxy: Bool
    package let sequence: SequenceNumber
}

package enum BidHistory {
    package struct Page: Sendable {
        package let bids: [BidRow]
        /// All bids of the auction.
        package let total: Int
        /// The next page begins below this sequence number; `nil` when there is none.
        package let next: SequenceNumber?
    }

    /// At most `limit` bids with a sequence number below `before`. `nil` when there is no such auction.
    package static func page(
        _ connection: PostgresConnection, _ id: AuctionID, before: SequenceNumber, limit: Int
    ) throws(DatabaseError) -> Page? {
        let rows = try connection.snapshot([
            Statement("SELECT bid_count FROM auctions WHERE auction_id = $1", [id.text]),
            Statement(
                """
                SELECT b.bid_id, b.bidder, b.amount, \(PostgresText.milliseconds("b.bid_at")), b.is_proxy, b.seq,
                    a.decimals
                FROM bids b JOIN auctions a USING (auction_id)
                WHERE b.auction_id = $1 AND b.seq < $2::bigint ORDER BY b.seq DESC LIMIT $3::bigint
                """, [id.text, "\(before)", "\(limit + 1)"]),
        ])
        guard !rows[0].isEmpty else { return nil }
        let bids = rows[1].decode(connection, limit: limit) { row throws(DatabaseError) in
            try bid(rows[1], row)
        }
        let next = rows[1].count > limit ? try rows[1].sequence(limit - 1, 5) : nil
        return Page(bids: bids, total: Int(try rows[0].integer(0, 0)), next: next)
    }

    /// The first seven columns of a row.
    static func bid(_ rows: Rows, _ row: Int) throws(DatabaseError) -> BidRow {
        BidRow(
            bidID: rows.text(row, 0), bidder: rows.text(row, 1),
            amount: Money(
                minorUnits: try rows.integer(row, 2), decimals: try AuctionRecords.decimals(rows, row, 6)),
            bidAt: try rows.time(row, 3), isProxy: rows.text(row, 4) == "t",
            sequence: try rows.sequence(row, 5))
    }
}
