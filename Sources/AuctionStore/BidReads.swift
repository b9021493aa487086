// The results of the bid transaction's first round trip, by name. The code notes each statement's index when
// it adds the statement, so that a different order cannot mix up the results.

import AuctionEvents

extension BidTransaction {
    struct Read {
        /// The locked auctions.
        let auctions: Rows
        let topBids: Rows
        private let clockRow: Rows
        private let bidders: Rows
        /// The keys that this transaction claimed, and those that were claimed before; `nil` when no bid has
        /// a key.
        private let keys: (claimed: Rows, earlier: Rows)?

        /// Begins the transaction, locks the auctions and reads what the bids need.
        init(_ batches: [Batch], _ keys: Keys, over connection: PostgresConnection) throws(DatabaseError) {
            var statements: [Statement] = []
            func add(_ statement: Statement) -> Int {
                statements.append(statement)
                return statements.count - 1
            }
            _ = add(Statement("BEGIN"))
            let auctions = add(Self.locking(batches.map(\.auctionID)))
            // A separate statement after the lock: a bid's time is the moment when it holds the row.
            let clock = add(Self.clock)
            let topBids = add(AuctionRecords.topBids(batches.map(\.auctionID)))
            let bidders = add(
                UserRecords.byIDs(Array(Set(batches.flatMap { $0.bids.map(\.bidderID) }))))
            var places: (claimed: Int, earlier: Int)?
            if !keys.all.isEmpty {
                let claimed = add(IdempotencyKeys.claiming(keys.toClaim))
                places = (claimed, add(IdempotencyKeys.reading(keys.all)))
            }
            let results = try connection.pipeline(statements)
            self.auctions = results[auctions]
            self.topBids = results[topBids]
            self.bidders = results[bidders]
            clockRow = results[clock]
            self.keys = places.map { (results[$0.claimed], results[$0.earlier]) }
        }

        private static func locking(_ ids: [AuctionID]) -> Statement {
            // A transaction that waits for one row must not hold other rows meanwhile.
            guard ids.count == 1 else {
                return AuctionRecords.locking(
                    "a.auction_id = ANY ($1::text[]) FOR NO KEY UPDATE SKIP LOCKED",
                    [PostgresText.array(ids.map(\.text))])
            }
            return AuctionRecords.locking("a.auction_id = $1 FOR NO KEY UPDATE", [ids[0].text])
        }

        private enum ClockColumn: Int {
            case now
            case transaction
        }

        private static let clock = Statement(
            "SELECT \(PostgresText.milliseconds("clock_timestamp()")), pg_current_xact_id()::text")

        /// The moment of the bids, and the number of the transaction.
        func clock() throws(DatabaseError) -> (now: Timestamp, transaction: String) {
            (
                try clockRow.time(0, ClockColumn.now.rawValue),
                clockRow.text(0, ClockColumn.transaction.rawValue)
            )
        }

        /// The bidders, by id.
        func users() -> [String: UserRecord] {
            let records = (0..<bidders.count).map { UserRecords.record(bidders, $0) }
            return Dictionary(records.map { ($0.userID, $0) }) { first, _ in first }
        }

        func answers(_ keys: Keys) throws(DatabaseError) -> Answers {
            guard let read = self.keys else { return Answers() }
            return try Answers(keys, claimed: read.claimed, read: read.earlier)
        }
    }
}
