// Auctions in the database: the row as the rules' value, creating, reading and listing.

package import AuctionEvents
package import Bidding

/// An auction with what the rules do not need.
package struct AuctionRecord: Sendable {
    package let auction: Auction
    package let seller: String
    package let description: String
    package let category: String
    package let imageURLs: [String]
    package let startsAt: Timestamp
    /// The database's clock at the read.
    package let readAt: Timestamp
}

/// A new auction as its seller wants it.
package struct AuctionDraft: Sendable {
    package let id: AuctionID
    package let sellerID: String
    package let description: String
    package let category: String
    package let currency: Currency
    package let imageURLs: [String]
    package let terms: AuctionTerms
    /// `nil`: now.
    package let startsAt: Timestamp?
    package let end: End

    package enum End: Sendable {
        case at(Timestamp)
        /// Milliseconds after the start.
        case after(milliseconds: Int64)

        func time(startsAt: Timestamp) -> Timestamp {
            switch self {
            case .at(let time): time
            case .after(let milliseconds): Timestamp(milliseconds: startsAt.milliseconds + milliseconds)
            }
        }
    }

    package init(
        id: AuctionID, sellerID: String, description: String, category: String, currency: Currency,
        imageURLs: [String], terms: AuctionTerms, startsAt: Timestamp?, end: End
    ) {
        self.id = id
        self.sellerID = sellerID
        self.description = description
        self.category = category
        self.currency = currency
        self.imageURLs = imageURLs
        self.terms = terms
        self.startsAt = startsAt
        self.end = end
    }
}

package enum AuctionRecords {
    /// The columns of ``locking(_:_:)`` and, with those from ``seller`` on, of ``recordQuery(_:key:join:)``,
    /// in order.
    private enum Column: Int {
        case auctionID, sellerID, title, currency, startingPrice, reservePrice, increments, status
        case endsAt, leaderID, currentPrice, bidCount, sequence, buyNowPrice
        case leaderMaximum, startsAt, decimals
        case seller, description, category, imageURLs
        case readAt, key, topBids
    }

    private static let auctionColumns = """
        a.auction_id, a.seller_id, a.title, a.currency, a.starting_price, a.reserve_price, a.increments, a.status,
        \(PostgresText.milliseconds("a.ends_at")), a.leader_id, a.current_price, a.bid_count, a.seq, a.buy_now_price,
        a.leader_max, \(PostgresText.milliseconds("a.starts_at")), a.decimals
        """

    // MARK: Reading

    package static func find(
        _ connection: PostgresConnection, _ id: AuctionID
    ) throws(DatabaseError) -> AuctionRecord? {
        let rows = try connection.query(recordQuery("a.auction_id = $1"), [id.text])
        return rows.isEmpty ? nil : try record(rows, 0)
    }

    /// Reads whole records.
    /// - Parameters:
    ///   - key: a number to sort by, which becomes the last column.
    ///   - join: a further table that the condition needs.
    static func recordQuery(_ condition: String, key: String = "0", join: String = "") -> String {
        """
        SELECT \(auctionColumns), s.username, a.description, a.category, array_to_json(a.image_urls),
            \(PostgresText.milliseconds("clock_timestamp()")), (\(key))::bigint, \(topBidsColumn)
        FROM auctions a \(join) JOIN users s ON s.user_id = a.seller_id
        WHERE \(condition)
        """
    }

    /// The first `limit` records that ``recordQuery(_:key:join:)`` brought.
    static func records(_ connection: PostgresConnection, _ rows: Rows, limit: Int) -> [AuctionRecord] {
        rows.decode(connection, limit: limit) { row throws(DatabaseError) in try record(rows, row) }
    }

    /// The cursor of a page that ends with this row.
    static func cursor(_ rows: Rows, _ row: Int) throws(DatabaseError) -> PageCursor {
        PageCursor(
            key: try rows.integer(row, Column.key.rawValue), id: rows.text(row, Column.auctionID.rawValue))
    }

    /// The highest bids as `bidder:minor units:milliseconds,…`, read at the same moment as the row. User
    /// names contain no `:` and no `,`.
    private static let topBidsColumn = """
        (SELECT string_agg(concat(t.bidder, ':', t.amount, ':', \(PostgresText.milliseconds("t.bid_at"))), ','
            ORDER BY t.seq DESC)
        FROM (SELECT bidder, amount, bid_at, seq FROM bids WHERE auction_id = a.auction_id
            ORDER BY seq DESC LIMIT \(AuctionState.topBidLimit)) t)
        """

    private static func topBids(inColumn text: String, decimals: Int) -> [TopBid] {
        text.split(separator: ",").compactMap { entry in
            let parts = entry.split(separator: ":")
            guard parts.count == 3, let units = Int64(parts[1]), let time = Int64(parts[2]) else {
                return nil
            }
            return TopBid(
                bidder: String(parts[0]), amount: Money(minorUnits: units, decimals: decimals),
                bidAt: Timestamp(milliseconds: time))
        }
    }

    private static func record(_ rows: Rows, _ row: Int) throws(DatabaseError) -> AuctionRecord {
        let text = { (column: Column) in rows.text(row, column.rawValue) }
        let topBids = topBids(inColumn: text(.topBids), decimals: try decimals(rows, row))
        return AuctionRecord(
            auction: try auction(rows, row, topBids: topBids), seller: text(.seller),
            description: text(.description), category: text(.category),
            imageURLs: strings(inJSONArray: text(.imageURLs)), startsAt: try startsAt(rows, row),
            readAt: try rows.time(row, Column.readAt.rawValue))
    }

    // MARK: The locked row

    /// Locks rows for a decision; `condition` may use the parameters.
    static func locking(_ condition: String, _ parameters: [String?]) -> Statement {
        Statement(
            """
            SELECT \(auctionColumns) FROM auctions a WHERE \(condition)
            """, parameters)
    }

    static func startsAt(_ rows: Rows, _ row: Int) throws(DatabaseError) -> Timestamp {
        try rows.time(row, Column.startsAt.rawValue)
    }

    private static func decimals(_ rows: Rows, _ row: Int) throws(DatabaseError) -> Int {
        try decimals(rows, row, Column.decimals.rawValue)
    }

    /// A column that holds the decimals of an auction's amounts.
    static func decimals(_ rows: Rows, _ row: Int, _ column: Int) throws(DatabaseError) -> Int {
        let decimals = try rows.integer(row, column)
        guard (0...Int64(Money.mostDecimals)).contains(decimals) else {
            throw .unreadable("\(decimals) decimals of \(rows.text(row, 0))")
        }
        return Int(decimals)
    }

    /// - Parameter topBids: the first is the leader's.
    static func auction(_ rows: Rows, _ row: Int, topBids: [TopBid]) throws(DatabaseError) -> Auction {
        let text = { (column: Column) in rows.text(row, column.rawValue) }
        let decimals = try decimals(rows, row)
        let money = { (column: Column) in Self.money(rows[row, column.rawValue], decimals) }
        guard let id = AuctionID(text(.auctionID)), let status = AuctionStatus(rawValue: text(.status)),
            let increments = IncrementTable(stored: text(.increments), decimals: decimals),
            let startingPrice = money(.startingPrice)
        else { throw .unreadable("auction \(text(.auctionID)) with status \(text(.status))") }
        let leader = topBids.first.map { highest in
            Auction.Leader(userID: text(.leaderID), username: highest.bidder, amount: highest.amount)
        }
        return Auction(
            id: id, sellerID: text(.sellerID),
            currency: Currency(code: text(.currency), decimals: decimals),
            terms: AuctionTerms(
                title: text(.title), startingPrice: startingPrice,
                reservePrice: money(.reservePrice), buyNowPrice: money(.buyNowPrice), increments: increments),
            status: status, endsAt: try rows.time(row, Column.endsAt.rawValue), leader: leader,
            leaderMaximum: money(.leaderMaximum),
            bidCount: Int(try rows.integer(row, Column.bidCount.rawValue)),
            sequence: try rows.sequence(row, Column.sequence.rawValue), topBids: topBids)
    }

    static func minorUnits(_ money: Money?) -> String? { money.map { "\($0.minorUnits)" } }

    static func money(_ text: String?, _ decimals: Int) -> Money? {
        text.flatMap { Int64($0) }.map { Money(minorUnits: $0, decimals: decimals) }
    }

    /// The highest bids of each auction. Amounts rise strictly, so the last bids by sequence are the highest.
    /// For locked rows, run this after the statement that locks them. A statement that waits for a lock sees
    /// other tables as they were before the wait.
    static func topBids(_ ids: [AuctionID]) -> Statement {
        Statement(
            """
            SELECT t.auction_id, b.bidder, b.amount, \(PostgresText.milliseconds("b.bid_at")), a.decimals
            FROM unnest($1::text[]) AS t (auction_id) JOIN auctions a USING (auction_id) CROSS JOIN LATERAL (
                SELECT bidder, amount, bid_at, seq FROM bids WHERE auction_id = t.auction_id
                ORDER BY seq DESC LIMIT \(AuctionState.topBidLimit)) b
            ORDER BY t.auction_id, b.seq DESC
            """, [PostgresText.array(ids.map(\.text))])
    }

    static func groupedTopBids(_ connection: PostgresConnection, _ rows: Rows) -> [String: [TopBid]] {
        let bids = rows.decode(connection) { row throws(DatabaseError) -> (String, TopBid) in
            let amount = Money(
                minorUnits: try rows.integer(row, 2), decimals: try decimals(rows, row, 4))
            return (
                rows.text(row, 0),
                TopBid(bidder: rows.text(row, 1), amount: amount, bidAt: try rows.time(row, 3))
            )
        }
        return Dictionary(grouping: bids, by: \.0).mapValues { $0.map(\.1) }
    }

    // MARK: Writing

    /// Inserts the auction with its outbox row, so that its state reaches Redis.
    package static func insert(
        _ connection: PostgresConnection, _ draft: AuctionDraft
    ) throws(DatabaseError) -> Result<AuctionRecord, AuctionSchedule.Fault> {
        let rows = try connection.query("SELECT \(PostgresText.milliseconds("clock_timestamp()"))")
        let now = try rows.time(0, 0)
        let startsAt = draft.startsAt ?? now
        let schedule = AuctionSchedule(startsAt: startsAt, endsAt: draft.end.time(startsAt: startsAt))
        if let fault = schedule.fault(at: now) { return .failure(fault) }
        let auction = Auction(
            id: draft.id, sellerID: draft.sellerID, currency: draft.currency, terms: draft.terms,
            status: startsAt > now ? .scheduled : .active, endsAt: schedule.endsAt)
        try connection.transaction { () throws(DatabaseError) in
            _ = try connection.pipeline([
                insertStatement(draft, auction, startsAt: startsAt),
                Statement("INSERT INTO outbox (auction_id, seq, event) VALUES ($1, 0, '')", [draft.id.text]),
            ])
        }
        guard let record = try find(connection, draft.id) else {
            throw .unavailable("the new auction was not found again")
        }
        return .success(record)
    }

    private static func insertStatement(
        _ draft: AuctionDraft, _ auction: Auction, startsAt: Timestamp
    ) -> Statement {
        Statement(
            """
            INSERT INTO auctions (auction_id, seller_id, title, description, category, currency, image_urls,
                starting_price, reserve_price, increments, starts_at, ends_at, status, current_price, state,
                buy_now_price, decimals)
            VALUES ($1, $2, $3, $4, $5, $6, $7::text[], $8::bigint, $9::bigint, $10, \(PostgresText.time("$11")),
                \(PostgresText.time("$12")), $13, $8::bigint, $14, $15::bigint, $16::smallint)
            """,
            [
                draft.id.text, draft.sellerID, draft.terms.title, draft.description, draft.category,
                draft.currency.code,
                PostgresText.array(draft.imageURLs), "\(draft.terms.startingPrice.minorUnits)",
                minorUnits(draft.terms.reservePrice), draft.terms.increments.stored,
                "\(startsAt.milliseconds)",
                "\(auction.endsAt.milliseconds)", auction.status.rawValue,
                String(decoding: auction.state.encoded(sequence: 0), as: UTF8.self),
                minorUnits(draft.terms.buyNowPrice), "\(draft.currency.decimals)",
            ])
    }

    /// Writes back what the rules decided: rows of `auctions` and `outbox`. For many auctions at once.
    static func writing(_ changes: [AuctionChange]) -> [Statement] {
        let events = changes.flatMap { change in change.events.map { (change.auction.id.text, $0) } }
        let auctions = changes.map(\.auction)
        return [
            Statement(
                """
                INSERT INTO outbox (auction_id, seq, event)
                SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
                """,
                [
                    PostgresText.array(events.map(\.0)),
                    PostgresText.array(events.map { Int64($0.1.sequence) }),
                    PostgresText.array(events.map(\.1.json)),
                ]),
            Statement(
                """
                UPDATE auctions a SET status = c.status,
                    ended_at = CASE WHEN c.status NOT IN ('scheduled', 'active') THEN clock_timestamp() END,
                    ends_at = \(PostgresText.time("c.ends_at")),
                    leader_id = c.leader_id, current_price = c.current_price, bid_count = c.bid_count, seq = c.seq,
                    state = c.state, leader_max = c.leader_max,
                    activity = \(activity("a", "c.bid_count - a.bid_count"))
                FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::integer[],
                    $7::bigint[], $8::text[], $9::bigint[])
                    AS c (auction_id, status, ends_at, leader_id, current_price, bid_count, seq, state, leader_max)
                WHERE a.auction_id = c.auction_id
                """,
                [
                    PostgresText.array(auctions.map(\.id.text)),
                    PostgresText.array(auctions.map(\.status.rawValue)),
                    PostgresText.array(auctions.map(\.endsAt.milliseconds)),
                    PostgresText.array(auctions.map { $0.leader?.userID }),
                    PostgresText.array(auctions.map(\.currentPrice.minorUnits)),
                    PostgresText.array(auctions.map { Int64($0.bidCount) }),
                    PostgresText.array(auctions.map { Int64($0.sequence) }),
                    PostgresText.array(
                        auctions.map {
                            String(decoding: $0.state.encoded(sequence: $0.sequence), as: UTF8.self)
                        }),
                    PostgresText.array(auctions.map { minorUnits($0.leaderMaximum) }),
                ]),
        ] + Notifications.writing(changes)
    }

    /// The logarithm of e^activity + bids × e^(the hour), computed without overflow or underflow.
    private static func activity(_ table: String, _ bids: String) -> String {
        let hour = "(extract(epoch FROM clock_timestamp()) / 3600)::double precision"
        let most = "greatest(\(table).activity, \(hour))"
        let earlier = "exp(greatest(\(table).activity - \(most), -50))"
        let sum = "\(earlier) + (\(bids)) * exp(greatest(\(hour) - \(most), -50))"
        return "CASE WHEN \(bids) > 0 THEN \(most) + ln(\(sum)) ELSE \(table).activity END"
    }

    /// The strings of a JSON array as PostgreSQL writes it, for values that were checked to need no escapes.
    private static func strings(inJSONArray text: String) -> [String] {
        text.dropFirst().dropLast().split(separator: ",").map { String($0.dropFirst().dropLast()) }
    }
}

/// A decided auction, its new events, and the notices for the users concerned.
struct AuctionChange {
    let auction: Auction
    let events: [(sequence: SequenceNumber, json: String)]
    let notices: [Notice]
    /// True when every bidder is to be told that the auction is over.
    let endsForBidders: Bool

    init(_ auction: Auction, at time: Timestamp) {
        var auction = auction
        events = auction.takeEvents().map { entry in
            (
                entry.sequence,
                entry.event.encoded(
                    auctionID: auction.id, sequence: entry.sequence, serverTime: time, trace: entry.trace)
            )
        }
        (notices, endsForBidders) = auction.takeNotices()
        self.auction = auction
    }
}
