// What a user has to do with an auction.

package import AuctionEvents

/// A user's part in an auction in which the user has bid.
package struct Participation: Sendable {
    /// The name that the auction's events show.
    package let bidder: String
    package let isHighest: Bool
    /// The user's maximum while the user leads, otherwise the user's highest bid.
    package let maximum: Money
    /// The user's bids, automatic ones included.
    package let bidCount: Int

    /// Reads a user's part; `nil` when the user has not bid.
    package static func find(
        _ connection: PostgresConnection, _ id: AuctionID, of userID: String
    ) throws(DatabaseError) -> Participation? {
        let rows = try connection.query(
            """
            SELECT max(b.bidder), bool_or(a.leader_id = b.bidder_id),
                greatest(max(b.amount), max(a.leader_max) FILTER (WHERE a.leader_id = b.bidder_id)),
                count(*), max(a.decimals)
            FROM bids b JOIN auctions a USING (auction_id)
            WHERE b.auction_id = $1 AND b.bidder_id = $2 HAVING count(*) > 0
            """, [id.text, userID])
        guard !rows.isEmpty else { return nil }
        let decimals = try AuctionRecords.decimals(rows, 0, 4)
        return Participation(
            bidder: rows.text(0, 0), isHighest: rows.text(0, 1) == "t",
            maximum: Money(minorUnits: try rows.integer(0, 2), decimals: decimals),
            bidCount: Int(try rows.integer(0, 3)))
    }
}
