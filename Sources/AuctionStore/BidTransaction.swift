// The bid's transaction: lock the row, read the clock, decide all waiting bids in arrival order, write bids, auction,
// outbox and answers to keep, commit. Two round trips, however many bids. The row lock makes it right with any number of
// bid APIs.

package import AuctionEvents
package import Bidding

package enum BidTransaction {
    /// What became of one bid.
    package enum Outcome: Sendable {
        case accepted(BidReceipt)
        case refused(BidRefusal)
        case banned
        case unknownBidder
        case unknownAuction
        /// The same request was answered before, with this.
        case repeated(KeptAnswer)
        /// Another request was answered under the same key.
        case otherRequest
    }

    /// A bid that waits: its bidder's name is read in the transaction.
    package struct Waiting: Sendable {
        package let bidID: String
        /// For the leader's automatic answer.
        package let automaticBidID: String
        package let bidderID: String
        package let offer: BidRequest.Offer
        package let key: IdempotencyKey?

        package init(
            bidID: String, automaticBidID: String, bidderID: String, offer: BidRequest.Offer,
            key: IdempotencyKey?
        ) {
            self.bidID = bidID
            self.automaticBidID = automaticBidID
            self.bidderID = bidderID
            self.offer = offer
            self.key = key
        }
    }

    /// What a batch came to.
    package struct Decision: Sendable {
        /// In the order of the bids.
        package let outcomes: [Outcome]
        package let hasEvents: Bool
    }

    package enum Conclusion: Sendable {
        case certain(Decision)
        /// The answer to COMMIT was lost: ``resolve(_:transaction:)`` tells whether it happened.
        case uncertain(Decision, transaction: String)
    }

    /// Decides `bids`, in order, in one transaction, and ends the auction when its time is over. When it throws,
    /// nothing was committed.
    /// - Parameter answer: what an outcome is answered with, to be kept for repeats.
    package static func run(
        _ connection: PostgresConnection, _ id: AuctionID, _ bids: [Waiting], antiSniping: AntiSniping,
        answer: (Outcome) -> KeptAnswer
    ) throws(DatabaseError) -> Conclusion {
        do throws(DatabaseError) {
            return try decide(connection, id, bids, antiSniping, answer)
        } catch {
            connection.rollBack()
            throw error
        }
    }

    /// Whether a transaction whose COMMIT was not answered is committed; `nil` while the server does not know yet.
    package static func resolve(
        _ connection: PostgresConnection, transaction: String
    ) throws(DatabaseError) -> Bool? {
        let rows = try connection.query("SELECT pg_xact_status($1::text::xid8)", [transaction])
        switch rows[0, 0] {
        case "committed": return true
        case "aborted": return false
        // Long forgotten, which a transaction of this moment cannot be, or under way.
        default: return nil
        }
    }

    private static func decide(
        _ connection: PostgresConnection, _ id: AuctionID, _ bids: [Waiting], _ antiSniping: AntiSniping,
        _ answer: (Outcome) -> KeptAnswer
    ) throws(DatabaseError) -> Conclusion {
        // A batch may hold one key several times: the first claims it, the others are its repeats.
        var keys: [[String]: IdempotencyKey] = [:]
        for key in bids.compactMap(\.key) where keys[place(key)] == nil { keys[place(key)] = key }
        // The clock is read by a statement of its own after the lock: the moment of a bid is when it has the row.
        let rows = try connection.pipeline([
            Statement("BEGIN"),
            AuctionRecords.locking("a.auction_id = $1 FOR UPDATE", [id.text]),
            Statement("SELECT \(PostgresText.milliseconds("clock_timestamp()")), pg_current_xact_id()::text"),
            AuctionRecords.topBids([id]),
            UserRecords.byIDs(Array(Set(bids.map(\.bidderID)))),
            IdempotencyKeys.claiming(Array(keys.values)), IdempotencyKeys.reading(Array(keys.values)),
        ])
        guard !rows[1].isEmpty else {
            connection.rollBack()
            return .certain(Decision(outcomes: bids.map { _ in .unknownAuction }, hasEvents: false))
        }
        let now = Timestamp(milliseconds: rows[2].integer(0, 0))
        let transaction = rows[2].text(0, 1)
        let top = AuctionRecords.groupedTopBids(rows[3])[id.text] ?? []
        var auction = AuctionRecords.auction(rows[1], 0, topBids: top)
        var users: [String: UserRecord] = [:]
        for row in 0..<rows[4].count {
            let user = UserRecords.record(rows[4], row)
            users[user.userID] = user
        }
        let earlier = IdempotencyKeys.earlier(claimed: rows[5], read: rows[6])
        // A storm of late bids holds the row when the closer comes for it; so the first of them ends the auction.
        auction.end(at: now)
        let beaten = auction.leader?.amount
        var kept: [[String]: KeptAnswer] = [:]
        let outcomes = bids.map { bid -> Outcome in
            guard let user = users[bid.bidderID] else { return .unknownBidder }
            if let key = bid.key {
                switch earlier[place(key)] {
                case .answered(let answer): return .repeated(answer)
                case .otherRequest: return .otherRequest
                case nil: break
                }
                if let answer = kept[place(key)] {
                    return keys[place(key)] == key ? .repeated(answer) : .otherRequest
                }
            }
            let outcome = decide(bid, by: user, on: &auction, at: now, antiSniping)
            if let key = bid.key { kept[place(key)] = answer(outcome) }
            return outcome
        }
        // A leader who goes further changes the row and brings no event.
        guard auction.isChanged || !kept.isEmpty else {
            connection.rollBack()
            return .certain(Decision(outcomes: outcomes, hasEvents: false))
        }
        let placed = auction.takeBids()
        let change = AuctionChange(auction, at: now)
        let answers = kept.compactMap { place, answer in keys[place].map { (key: $0, answer: answer) } }
        let decision = Decision(outcomes: outcomes, hasEvents: !change.events.isEmpty)
        do throws(DatabaseError) {
            _ = try connection.pipeline(
                [insert(placed, id, beaten: beaten), IdempotencyKeys.keeping(answers)]
                    + (auction.isChanged ? AuctionRecords.writing([change]) : []) + [Statement("COMMIT")])
        } catch {
            // What was sent last may have arrived.
            guard connection.isBroken else { throw error }
            return .uncertain(decision, transaction: transaction)
        }
        return .certain(decision)
    }

    private static func place(_ key: IdempotencyKey) -> [String] { [key.userID, key.key] }

    private static func decide(
        _ bid: Waiting, by user: UserRecord, on auction: inout Auction, at now: Timestamp,
        _ antiSniping: AntiSniping
    ) -> Outcome {
        guard !user.isBanned else { return .banned }
        let request = BidRequest(
            bidID: bid.bidID, automaticBidID: bid.automaticBidID, bidderID: bid.bidderID,
            bidder: user.username,
            offer: bid.offer)
        switch auction.place(request, at: now, antiSniping: antiSniping) {
        case .success(let receipt): return .accepted(receipt)
        case .failure(let refusal): return .refused(refusal)
        }
    }

    /// - Parameter beaten: the amount that led before the first of them.
    private static func insert(_ bids: [PlacedBid], _ id: AuctionID, beaten: Money?) -> Statement {
        let beatenAmounts = [beaten] + bids.dropLast().map { $0.amount }
        return Statement(
            """
            INSERT INTO bids (auction_id, bid_id, seq, bidder_id, bidder, amount, beaten_amount, is_proxy, bid_at)
            SELECT $1, b.bid_id, b.seq, b.bidder_id, b.bidder, b.amount, b.beaten, b.is_proxy = 1,
                \(PostgresText.time("b.bid_at"))
            FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::bigint[]) AS b (bid_id, seq, bidder_id, bidder, amount, beaten, is_proxy, bid_at)
            """,
            [
                id.text, PostgresText.array(bids.map(\.bidID)),
                PostgresText.array(bids.map { Int64($0.sequence) }), PostgresText.array(bids.map(\.bidderID)),
                PostgresText.array(bids.map(\.bidder)), PostgresText.array(bids.map(\.amount.cents)),
                PostgresText.array(bids.indices.map { index in beatenAmounts[index].map { "\($0.cents)" } }),
                PostgresText.array(bids.map { $0.isProxy ? Int64(1) : 0 }),
                PostgresText.array(bids.map(\.bidAt.milliseconds)),
            ])
    }
}
