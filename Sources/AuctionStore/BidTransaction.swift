// The bid's transaction: lock the row, read the clock, decide all waiting bids in arrival order, write bids, auction and
// outbox, commit. Two round trips, however many bids. The row lock makes it right with any number of bid APIs.

package import AuctionEvents
package import Bidding

package enum BidTransaction {
    /// What became of one bid.
    package enum Outcome: Sendable {
        case accepted(AcceptedBid)
        case refused(BidRefusal)
        case banned
        case unknownBidder
        case unknownAuction
    }

    /// A bid that waits: its bidder's name is read in the transaction.
    package struct Waiting: Sendable {
        package let bidID: String
        package let bidderID: String
        package let amount: Money

        package init(bidID: String, bidderID: String, amount: Money) {
            self.bidID = bidID
            self.bidderID = bidderID
            self.amount = amount
        }
    }

    /// Decides `bids`, in order, in one transaction, and ends the auction when its time is over. When it throws,
    /// nothing was committed as far as is known.
    package static func run(
        _ connection: PostgresConnection, _ id: AuctionID, _ bids: [Waiting], antiSniping: AntiSniping
    ) throws(DatabaseError) -> (outcomes: [Outcome], hasEvents: Bool) {
        do throws(DatabaseError) {
            return try decide(connection, id, bids, antiSniping)
        } catch {
            connection.rollBack()
            throw error
        }
    }

    private static func decide(
        _ connection: PostgresConnection, _ id: AuctionID, _ bids: [Waiting], _ antiSniping: AntiSniping
    ) throws(DatabaseError) -> (outcomes: [Outcome], hasEvents: Bool) {
        // The clock is read by a statement of its own after the lock: the moment of a bid is when it has the row.
        let rows = try connection.pipeline([
            Statement("BEGIN"),
            AuctionRecords.locking("a.auction_id = $1 FOR UPDATE", [id.text]),
            Statement("SELECT \(PostgresText.milliseconds("clock_timestamp()"))"),
            AuctionRecords.topBids([id]),
            UserRecords.byIDs(Array(Set(bids.map(\.bidderID)))),
        ])
        guard !rows[1].isEmpty else {
            connection.rollBack()
            return (bids.map { _ in .unknownAuction }, false)
        }
        let now = Timestamp(milliseconds: rows[2].integer(0, 0))
        let top = AuctionRecords.groupedTopBids(rows[3])[id.text] ?? []
        var auction = AuctionRecords.auction(rows[1], 0, topBids: top)
        var users: [String: UserRecord] = [:]
        for row in 0..<rows[4].count {
            let user = UserRecords.record(rows[4], row)
            users[user.userID] = user
        }
        // A storm of late bids holds the row when the closer comes for it; so the first of them ends the auction.
        auction.end(at: now)
        var accepted: [AcceptedBid] = []
        let outcomes = bids.map { bid -> Outcome in
            guard let user = users[bid.bidderID] else { return .unknownBidder }
            guard !user.isBanned else { return .banned }
            let request = BidRequest(
                bidID: bid.bidID, bidderID: bid.bidderID, bidder: user.username, amount: bid.amount)
            switch auction.place(request, at: now, antiSniping: antiSniping) {
            case .success(let bid):
                accepted.append(bid)
                return .accepted(bid)
            case .failure(let refusal): return .refused(refusal)
            }
        }
        let change = AuctionChange(auction, at: now)
        guard !change.events.isEmpty else {
            connection.rollBack()
            return (outcomes, false)
        }
        _ = try connection.pipeline(
            [insert(accepted, id)] + AuctionRecords.writing([change]) + [Statement("COMMIT")])
        return (outcomes, true)
    }

    private static func insert(_ bids: [AcceptedBid], _ id: AuctionID) -> Statement {
        Statement(
            """
            INSERT INTO bids (auction_id, bid_id, seq, bidder_id, bidder, amount, is_proxy, bid_at)
            SELECT $1, b.bid_id, b.seq, b.bidder_id, b.bidder, b.amount, false, \(PostgresText.time("b.bid_at"))
            FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[])
                AS b (bid_id, seq, bidder_id, bidder, amount, bid_at)
            """,
            [
                id.text, PostgresText.array(bids.map(\.request.bidID)),
                PostgresText.array(bids.map { Int64($0.sequence) }),
                PostgresText.array(bids.map(\.request.bidderID)),
                PostgresText.array(bids.map(\.request.bidder)),
                PostgresText.array(bids.map(\.request.amount.cents)),
                PostgresText.array(bids.map(\.bidAt.milliseconds)),
            ])
    }
}
