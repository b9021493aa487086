// Starts and ends auctions by the database's clock. It skips a row that another bid API or a bid has locked,
// so any number of bid APIs may run it. A bid that arrives after the end ends the auction itself.

import AuctionEvents
import Bidding

package enum AuctionClock {
    /// Auctions decided in one transaction.
    private static let batch = 500

    // Unlike `clock_timestamp()`, `now()` is constant within a statement, so PostgreSQL can use an index.
    // Most of the time, none of a million auctions is due.
    private static let isToStart = "a.status = 'scheduled' AND a.starts_at <= now()"
    private static let isToEnd = "a.status = 'active' AND a.ends_at <= now()"

    /// Starts and ends due auctions. Returns by how many milliseconds each of them was late. If there were
    /// any, call again at once: more may be due.
    package static func tick(_ connection: PostgresConnection) throws(DatabaseError) -> [Int64] {
        let due = try connection.query(
            """
            (SELECT 1 FROM auctions a WHERE \(isToStart) LIMIT 1)
            UNION ALL
            (SELECT 1 FROM auctions a WHERE \(isToEnd) LIMIT 1)
            """)
        guard !due.isEmpty else { return [] }
        let started = try decide(connection, "\(isToStart) ORDER BY a.starts_at") { auction, _ in
            auction.start()
        }
        let ended = try decide(connection, "\(isToEnd) ORDER BY a.ends_at") { auction, now in
            auction.end(at: now)
        }
        return started + ended
    }

    private static func decide(
        _ connection: PostgresConnection, _ condition: String, _ body: (inout Auction, Timestamp) -> Void
    ) throws(DatabaseError) -> [Int64] {
        try connection.transaction { () throws(DatabaseError) in
            let locked = try connection.pipeline([
                AuctionRecords.locking("\(condition) LIMIT \(batch) FOR NO KEY UPDATE SKIP LOCKED", []),
                Statement("SELECT \(PostgresText.milliseconds("clock_timestamp()"))"),
            ])
            guard !locked[0].isEmpty else { return [] }
            let now = try locked[1].time(0, 0)
            let ids = (0..<locked[0].count).compactMap { AuctionID(locked[0].text($0, 0)) }
            let top = AuctionRecords.groupedTopBids(
                connection, try connection.pipeline([AuctionRecords.topBids(ids)])[0])
            var lateness: [Int64] = []
            let changes = locked[0].decode(connection) { row throws(DatabaseError) -> AuctionChange in
                var auction = try AuctionRecords.auction(
                    locked[0], row, topBids: top[locked[0].text(row, 0)] ?? [])
                let due =
                    auction.status == .scheduled
                    ? try AuctionRecords.startsAt(locked[0], row) : auction.endsAt
                lateness.append(now.milliseconds - due.milliseconds)
                body(&auction, now)
                return AuctionChange(auction, at: now)
            }
            if !changes.isEmpty { _ = try connection.pipeline(AuctionRecords.writing(changes)) }
            return lateness
        }
    }
}
