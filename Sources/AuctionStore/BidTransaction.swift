// The bid transaction. It locks the rows, reads the clock and decides all waiting bids in order of arrival.
// Then it writes bids, auctions, outbox and the answers to keep, and commits. It takes two round trips,
// however many bids and auctions there are. The row lock keeps it correct with any number of bid APIs.

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

        fileprivate var isRepeated: Bool {
            if case .repeated = self { true } else { false }
        }

        /// True when repeats get this answer too. A request that was wrong in itself may be right later.
        fileprivate var isKept: Bool {
            switch self {
            case .refused(.notForSale), .refused(.priceChanged), .refused(.excessDecimals): false
            default: true
            }
        }
    }

    /// A waiting bid. The transaction reads the bidder's name.
    package struct Waiting: Sendable {
        package let bidID: String
        /// For the leader's automatic answer.
        package let automaticBidID: String
        package let bidderID: String
        package let offer: BidRequest.Offer
        package let key: IdempotencyKey?
        /// `nil` unless the bid is traced.
        package let trace: TraceContext?

        package init(
            bidID: String, automaticBidID: String, bidderID: String, offer: BidRequest.Offer,
            key: IdempotencyKey?, trace: TraceContext? = nil
        ) {
            self.bidID = bidID
            self.automaticBidID = automaticBidID
            self.bidderID = bidderID
            self.offer = offer
            self.key = key
            self.trace = trace
        }
    }

    /// The bids of one auction that wait, in order.
    package struct Batch: Sendable {
        package let auctionID: AuctionID
        package let bids: [Waiting]

        package init(_ auctionID: AuctionID, _ bids: [Waiting]) {
            self.auctionID = auctionID
            self.bids = bids
        }
    }

    /// What some batches came to.
    package struct Decision: Sendable {
        /// For each batch, the outcomes in the order of its bids. `nil` where nothing was decided, because
        /// another transaction holds the auction's row or there is no such row. A single batch waits for the
        /// row and is always decided.
        package let outcomes: [[Outcome]?]
        package let hasEvents: Bool
        /// How long the last round trip took, with the writes and COMMIT; `nil` when there was nothing to
        /// commit.
        package var commitDuration: Duration?
    }

    package enum Conclusion: Sendable {
        case certain(Decision)
        /// The answer to COMMIT was lost. ``resolve(_:_:)`` tells whether the transaction committed.
        case uncertain(Decision, Trace)
    }

    /// How a transaction can be found again.
    package struct Trace: Sendable {
        /// The transaction's number. After a crash, another transaction may get the same number if this one
        /// left nothing on disk.
        fileprivate let number: String
        /// Finds a row if the transaction's writes were committed.
        fileprivate let evidence: Statement
    }

    /// Decides `batches`, each of another auction, in one transaction, and ends auctions whose time is over.
    /// When it throws, nothing was committed, or a standby has not confirmed the commit.
    /// - Parameter answer: returns the answer to an outcome, which is kept for repeats of the request.
    package static func run(
        _ connection: PostgresConnection, _ batches: [Batch], antiSniping: AntiSniping,
        answer: (Outcome) -> KeptAnswer
    ) throws(DatabaseError) -> Conclusion {
        do throws(DatabaseError) {
            return try decide(connection, batches, antiSniping, answer)
        } catch {
            connection.rollBack()
            throw error
        }
    }

    /// True when a transaction whose COMMIT got no answer has committed; `nil` while it is under way.
    package static func resolve(
        _ connection: PostgresConnection, _ trace: Trace
    ) throws(DatabaseError) -> Bool? {
        do throws(DatabaseError) {
            let rows = try connection.query("SELECT pg_xact_status($1::text::xid8)", [trace.number])
            if rows[0, 0] == "in progress" { return nil }
        } catch {
            // No transaction has had this number since the server's crash: ours left nothing behind.
            guard case .refused(sqlState: "22023", _) = error else { throw error }
        }
        guard try !connection.pipeline([trace.evidence])[0].isEmpty else { return false }
        // It is committed here. A failover must not lose it either.
        try connection.confirmCommits()
        return true
    }

    private static func decide(
        _ connection: PostgresConnection, _ batches: [Batch], _ antiSniping: AntiSniping,
        _ answer: (Outcome) -> KeptAnswer
    ) throws(DatabaseError) -> Conclusion {
        let keys = Keys(batches)
        let read = try Read(batches, keys, over: connection)
        guard !read.auctions.isEmpty else {
            connection.rollBack()
            let unknown = batches.count == 1 ? [batches[0].bids.map { _ in Outcome.unknownAuction }] : nil
            return .certain(Decision(outcomes: unknown ?? batches.map { _ in nil }, hasEvents: false))
        }
        let (now, transaction) = try read.clock()
        var auctions = try auctions(
            connection, read.auctions, AuctionRecords.groupedTopBids(connection, read.topBids))
        let users = read.users()
        var answers = try read.answers(keys)
        var placed: [Placed] = []
        var changes: [AuctionChange] = []
        let outcomes = batches.map { batch -> [Outcome]? in
            guard var auction = auctions.removeValue(forKey: batch.auctionID.text) else { return nil }
            // In a storm of late bids the closer may find the row locked, so the first late bid ends the
            // auction.
            auction.end(at: now)
            let beaten = auction.leader?.amount
            let outcomes = batch.bids.map { bid -> Outcome in
                guard let user = users[bid.bidderID] else { return .unknownBidder }
                if let earlier = answers.earlier(bid.key) { return earlier }
                let outcome = decide(bid, by: user, on: &auction, at: now, antiSniping)
                if let key = bid.key, outcome.isKept { answers.keep(answer(outcome), for: key) }
                return outcome
            }
            // A leader who only raises the maximum changes the row without an event.
            if auction.isChanged {
                placed += Placed.chain(auction.takeBids(), batch.auctionID, beaten: beaten)
                changes.append(AuctionChange(auction, at: now))
            }
            return outcomes
        }
        var decision = Decision(outcomes: outcomes, hasEvents: changes.contains { !$0.events.isEmpty })
        guard !changes.isEmpty || !answers.kept.isEmpty else {
            // Keys that were claimed for nothing go with it.
            connection.rollBack()
            // An earlier answer may come from a commit that no standby has confirmed.
            if outcomes.contains(where: { $0?.contains(where: \.isRepeated) ?? false }) {
                try connection.confirmCommits()
            }
            return .certain(decision)
        }
        let start = ContinuousClock.now
        let writes =
            [insert(placed)] + answers.writing + (changes.isEmpty ? [] : AuctionRecords.writing(changes))
        guard try isCommitted(writes, over: connection) else {
            return .uncertain(
                decision, Trace(number: transaction, evidence: evidence(changes, answers.kept)))
        }
        decision.commitDuration = ContinuousClock.now - start
        return .certain(decision)
    }

    /// Writes and commits. Returns false when the answer to COMMIT was lost.
    private static func isCommitted(
        _ writes: [Statement], over connection: PostgresConnection
    ) throws(DatabaseError) -> Bool {
        do throws(DatabaseError) {
            _ = try connection.pipeline(writes + [Statement("COMMIT")])
            return true
        } catch {
            // The server may have received the COMMIT.
            guard connection.isBroken else { throw error }
            return false
        }
    }

    /// A statement that proves the writes. It finds the first event, the first answer, or the leader's
    /// maximum.
    private static func evidence(
        _ changes: [AuctionChange], _ kept: [(key: IdempotencyKey, answer: KeptAnswer)]
    ) -> Statement {
        for change in changes {
            guard let event = change.events.first else { continue }
            return Statement(
                "SELECT 1 FROM outbox WHERE auction_id = $1 AND seq = $2::bigint AND event = $3",
                [change.auction.id.text, "\(event.sequence)", event.json])
        }
        if let (key, answer) = kept.first {
            return Statement(
                "SELECT 1 FROM idempotency_keys WHERE user_id = $1 AND key = $2 AND body = $3",
                [key.userID, key.key, answer.body])
        }
        let auction = changes[0].auction
        return Statement(
            "SELECT 1 FROM auctions WHERE auction_id = $1 AND leader_id = $2 AND leader_max = $3::bigint",
            [auction.id.text, auction.leader?.userID, AuctionRecords.minorUnits(auction.leaderMaximum)])
    }

    /// The locked auctions. In a batch, an unreadable one is left out and retried in a transaction of its
    /// own. If it is the only one, the call throws.
    private static func auctions(
        _ connection: PostgresConnection, _ rows: Rows, _ topBids: [String: [TopBid]]
    ) throws(DatabaseError) -> [String: Auction] {
        func auction(_ row: Int) throws(DatabaseError) -> Auction {
            try AuctionRecords.auction(rows, row, topBids: topBids[rows.text(row, 0)] ?? [])
        }
        let read = rows.count == 1 ? [try auction(0)] : rows.decode(connection, auction)
        return Dictionary(read.map { ($0.id.text, $0) }) { first, _ in first }
    }

    private static func decide(
        _ bid: Waiting, by user: UserRecord, on auction: inout Auction, at now: Timestamp,
        _ antiSniping: AntiSniping
    ) -> Outcome {
        guard !user.isBanned else { return .banned }
        let request = BidRequest(
            bidID: bid.bidID, automaticBidID: bid.automaticBidID, bidderID: bid.bidderID,
            bidder: user.username, offer: bid.offer, trace: bid.trace)
        switch auction.place(request, at: now, antiSniping: antiSniping) {
        case .success(let receipt): return .accepted(receipt)
        case .failure(let refusal): return .refused(refusal)
        }
    }

    /// A bid to be written, with the amount that it has beaten.
    private struct Placed {
        let auctionID: AuctionID
        let bid: PlacedBid
        let beaten: Money?

        /// - Parameter beaten: the amount that led before the first of them.
        static func chain(_ bids: [PlacedBid], _ auctionID: AuctionID, beaten: Money?) -> [Placed] {
            zip(bids, [beaten] + bids.dropLast().map(\.amount)).map {
                Placed(auctionID: auctionID, bid: $0, beaten: $1)
            }
        }
    }

    private static func insert(_ placed: [Placed]) -> Statement {
        let bids = placed.map(\.bid)
        return Statement(
            """
            INSERT INTO bids (auction_id, bid_id, seq, bidder_id, bidder, amount, beaten_amount, is_proxy, bid_at)
            SELECT b.auction_id, b.bid_id, b.seq, b.bidder_id, b.bidder, b.amount, b.beaten, b.is_proxy = 1,
                \(PostgresText.time("b.bid_at"))
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bigint[])
                AS b (auction_id, bid_id, seq, bidder_id, bidder, amount, beaten, is_proxy, bid_at)
            """,
            [
                PostgresText.array(placed.map(\.auctionID.text)), PostgresText.array(bids.map(\.bidID)),
                PostgresText.array(bids.map { Int64($0.sequence) }), PostgresText.array(bids.map(\.bidderID)),
                PostgresText.array(bids.map(\.bidder)), PostgresText.array(bids.map(\.amount.minorUnits)),
                PostgresText.array(placed.map { AuctionRecords.minorUnits($0.beaten) }),
                PostgresText.array(bids.map { $0.isProxy ? Int64(1) : 0 }),
                PostgresText.array(bids.map(\.bidAt.milliseconds)),
            ])
    }
}
