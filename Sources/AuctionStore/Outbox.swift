// The events that wait to be published, and those kept so that a Redis that lost its data can be filled
// again.

package import AuctionEvents

/// Consecutive events of one auction on their way to Redis.
package struct Publication: Sendable {
    package let auctionID: String
    /// The sequence number of the first of ``events``; with no events, one more than the state's.
    package let first: SequenceNumber
    package let events: [String]
    /// The state at the last event; `nil` when more events follow that are not part of this publication.
    package let state: String?
    /// How many seconds Redis keeps the auction; `nil` while it is not over.
    package let secondsToKeep: Int?

    package var last: SequenceNumber { first + SequenceNumber(events.count) - 1 }
}

package enum Outbox {
    /// Events of an auction that are in Redis now.
    package struct Progress: Sendable {
        package let auctionID: String
        /// The first that was not known to be there before.
        package let first: SequenceNumber
        package let last: SequenceNumber

        package init(auctionID: String, first: SequenceNumber, last: SequenceNumber) {
            self.auctionID = auctionID
            self.first = first
            self.last = last
        }
    }

    /// Auctions read in one go, and events of each.
    private static let auctionsPerRead = 200
    private static let eventsPerRead = 500
    /// Auctions that are forgotten in one go.
    private static let prunedAuctions = 200
    /// As many events of an auction as Redis' log keeps.
    package static let kept = 1_024
    /// Events after which older ones are deleted.
    private static let pruneStep: SequenceNumber = 256

    /// A day after the end, as ``prune(_:)`` has it.
    private static let secondsToKeep = """
        CASE WHEN a.ended_at IS NOT NULL THEN
            greatest(1, 86400 - floor(extract(epoch FROM clock_timestamp() - a.ended_at)))::bigint END
        """

    /// The auctions after `cursor` that have something to publish, in order of their ids.
    package static func waiting(
        _ connection: PostgresConnection, after cursor: String
    ) throws(DatabaseError) -> [String] {
        // Skip from auction to auction along the index. A plain DISTINCT would read every waiting row, even
        // when one auction has very many.
        let rows = try connection.query(
            """
            WITH RECURSIVE waiting (auction_id, number) AS (
                (SELECT auction_id, 1 FROM outbox WHERE published_at IS NULL AND auction_id > $1
                ORDER BY auction_id LIMIT 1)
                UNION ALL
                SELECT (SELECT auction_id FROM outbox WHERE published_at IS NULL AND auction_id > w.auction_id
                    ORDER BY auction_id LIMIT 1), number + 1
                FROM waiting w WHERE w.auction_id IS NOT NULL AND number < \(auctionsPerRead))
            SELECT auction_id FROM waiting WHERE auction_id IS NOT NULL ORDER BY number
            """, [cursor])
        return (0..<rows.count).map { rows.text($0, 0) }
    }

    /// The unpublished events of these auctions, in (auction, seq) order.
    package static func pending(
        _ connection: PostgresConnection, _ auctionIDs: [String]
    ) throws(DatabaseError) -> [Publication] {
        // One statement, so that states and events are of one moment.
        let rows = try connection.query(
            """
            SELECT a.auction_id, a.seq, \(secondsToKeep), a.state, o.seq, o.event
            FROM unnest($1::text[]) AS w (auction_id) JOIN auctions a USING (auction_id)
            CROSS JOIN LATERAL (SELECT seq, event FROM outbox WHERE auction_id = a.auction_id
                AND published_at IS NULL ORDER BY seq LIMIT \(eventsPerRead)) o
            ORDER BY a.auction_id, o.seq
            """, [PostgresText.array(auctionIDs)])
        return publications(connection, rows)
    }

    /// Marks events as published, and deletes those that are too old for Redis.
    package static func markPublished(
        _ connection: PostgresConnection, _ published: [Progress]
    ) throws(DatabaseError) {
        func parameters(_ progress: [Progress]) -> [String?] {
            [
                PostgresText.array(progress.map(\.auctionID)),
                PostgresText.array(progress.map { Int64($0.last) }),
            ]
        }
        // Delete in steps, not one by one. Each search for old rows scans rows that are deleted but not
        // vacuumed.
        let stepped = published.filter { $0.last / pruneStep > ($0.first - 1) / pruneStep && $0.last > kept }
        let statements = [
            Statement(
                """
                UPDATE outbox o SET published_at = now()
                FROM unnest($1::text[], $2::bigint[]) AS p (auction_id, seq)
                WHERE o.auction_id = p.auction_id AND o.seq <= p.seq AND o.published_at IS NULL
                """, parameters(published)),
            // Neither Redis nor a refill needs more.
            Statement(
                """
                DELETE FROM outbox o USING unnest($1::text[], $2::bigint[]) AS p (auction_id, seq)
                WHERE o.auction_id = p.auction_id AND o.seq <= p.seq - \(kept)
                """, parameters(stepped)),
        ]
        _ = try connection.pipeline(stepped.isEmpty ? [statements[0]] : statements)
    }

    /// The auctions after `cursor` that are scheduled, running or just over, in order of their ids. Brings
    /// their states, but no events.
    package static func live(
        _ connection: PostgresConnection, after cursor: String, limit: Int
    ) throws(DatabaseError) -> [Publication] {
        let rows = try connection.query(
            """
            SELECT auction_id, seq, state, \(secondsToKeep) FROM auctions a
            WHERE NOT is_forgotten AND auction_id > $1
            ORDER BY auction_id LIMIT $2::bigint
            """, [cursor, "\(limit)"])
        return rows.decode(connection) { row throws(DatabaseError) in
            Publication(
                auctionID: rows.text(row, 0), first: try rows.sequence(row, 1) + 1, events: [],
                state: rows.text(row, 2), secondsToKeep: rows[row, 3].flatMap { Int($0) })
        }
    }

    /// The current sequence numbers of some auctions.
    package static func sequences(
        _ connection: PostgresConnection, _ auctionIDs: [String]
    ) throws(DatabaseError) -> [String: SequenceNumber] {
        let rows = try connection.query(
            "SELECT auction_id, seq FROM auctions WHERE auction_id = ANY ($1::text[])",
            [PostgresText.array(auctionIDs)])
        let pairs = rows.decode(connection) { row throws(DatabaseError) in
            (rows.text(row, 0), try rows.sequence(row, 1))
        }
        return Dictionary(pairs) { first, _ in first }
    }

    /// The last events of an auction, as many as Redis keeps, and its state; and the first that was never
    /// published.
    package static func refill(
        _ connection: PostgresConnection, auctionID: String
    ) throws(DatabaseError) -> (publication: Publication, firstUnpublished: SequenceNumber)? {
        let rows = try connection.query(
            """
            SELECT a.auction_id, a.seq, \(secondsToKeep), a.state, o.seq, o.event,
                (SELECT min(seq) FROM outbox WHERE auction_id = a.auction_id AND published_at IS NULL AND seq > 0)
            FROM auctions a JOIN outbox o USING (auction_id)
            WHERE a.auction_id = $1 AND o.seq > a.seq - \(kept) ORDER BY o.seq
            """, [auctionID])
        guard let publication = publications(connection, rows).first else { return nil }
        let unpublished = rows[0, 6].flatMap { UInt64($0) } ?? publication.last + 1
        return (publication, unpublished)
    }

    /// Deletes the events of some auctions that ended over a day ago, as Redis does. True when there may be
    /// more. Events of running auctions are deleted when newer ones are published.
    package static func prune(_ connection: PostgresConnection) throws(DatabaseError) -> Bool {
        try connection.query(
            """
            WITH over AS (UPDATE auctions SET is_forgotten = true WHERE auction_id IN (
                SELECT a.auction_id FROM auctions a WHERE NOT a.is_forgotten AND a.ended_at < now() - interval '1 day'
                    AND NOT EXISTS (SELECT 1 FROM outbox WHERE auction_id = a.auction_id AND published_at IS NULL)
                ORDER BY a.ended_at LIMIT \(prunedAuctions) FOR UPDATE SKIP LOCKED)
                RETURNING auction_id),
            gone AS (DELETE FROM outbox o USING over WHERE o.auction_id = over.auction_id)
            SELECT 1 FROM over
            """
        ).count == prunedAuctions
    }

    /// How many events wait to be published, and for how many seconds the oldest does.
    package static func backlog(
        _ connection: PostgresConnection
    ) throws(DatabaseError) -> (events: Int, oldestSeconds: Int) {
        let rows = try connection.query(
            """
            SELECT count(*), coalesce(floor(extract(epoch FROM now() - min(created_at))), 0)::bigint
            FROM outbox WHERE published_at IS NULL
            """)
        return (Int(try rows.integer(0, 0)), Int(try rows.integer(0, 1)))
    }

    /// Groups rows of (auction, seq, seconds to keep, state, event's seq, event) by auction.
    private static func publications(_ connection: PostgresConnection, _ rows: Rows) -> [Publication] {
        var publications: [Publication] = []
        var row = 0
        while row < rows.count {
            let auctionID = rows.text(row, 0)
            let start = row
            while row < rows.count, rows.text(row, 0) == auctionID { row += 1 }
            do throws(DatabaseError) {
                publications.append(try publication(rows, start..<row))
            } catch {
                connection.reportUnreadable?(error.description)
            }
        }
        return publications
    }

    private static func publication(_ rows: Rows, _ range: Range<Int>) throws(DatabaseError) -> Publication {
        let start = range.lowerBound
        let sequence = try rows.sequence(start, 1)
        // Row 0 stands for the creation: a state without event.
        var events: [Int] = []
        var first = sequence + 1
        for row in range {
            let number = try rows.sequence(row, 4)
            guard number > 0 else { continue }
            if events.isEmpty { first = number }
            events.append(row)
        }
        let last = first + SequenceNumber(events.count) - 1
        return Publication(
            auctionID: rows.text(start, 0), first: first, events: events.map { rows.text($0, 5) },
            state: last == sequence ? rows.text(start, 3) : nil,
            secondsToKeep: rows[start, 2].flatMap { Int($0) })
    }
}
