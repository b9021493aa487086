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
    /// Bids with a sequence number below `before`, and how many there are in all; `nil` when there is no such
    /// auction.
    package static func page(
        _ connection: PostgresConnection, _ id: AuctionID, before: SequenceNumber, limit: Int
    ) throws(DatabaseError) -> (bids: [BidRow], total: Int)? {
        let rows = try connection.snapshot([
            Statement("SELECT bid_count FROM auctions WHERE auction_id = $1", [id.text]),
            Statement(
                """
                SELECT bid_id, bidder, amount, \(PostgresText.milliseconds("bid_at")), is_proxy, seq FROM bids
                WHERE auction_id = $1 AND seq < $2::bigint ORDER BY seq DESC LIMIT $3::bigint
                """, [id.text, "\(before)", "\(limit)"]),
        ])
        guard !rows[0].isEmpty else { return nil }
        let bids = (0..<rows[1].count).map { bid(rows[1], $0) }
        return (bids, Int(rows[0].integer(0, 0)))
    }

    /// The first six columns of a row.
    static func bid(_ rows: Rows, _ row: Int) -> BidRow {
        BidRow(
            bidID: rows.text(row, 0), bidder: rows.text(row, 1), amount: Money(cents: rows.integer(row, 2)),
            bidAt: Timestamp(milliseconds: rows.integer(row, 3)), isProxy: rows.text(row, 4) == "t",
            sequence: SequenceNumber(rows.integer(row, 5)))
    }
}
