// Auctions by pages. A page begins behind the last row of the one before, so that it costs the same however deep it is and
// nothing that comes or goes in between shifts it.

package import AuctionEvents
import Bidding

/// Where a page ended: the number that it was sorted by, and the row's id, which decides between equal numbers.
package struct PageCursor: Sendable, Equatable {
    package let key: Int64
    package let id: String

    init(key: Int64, id: String) {
        self.key = key
        self.id = id
    }

    /// Reads ``text``; `nil` for anything else.
    package init?(_ text: some StringProtocol) {
        guard let end = text.firstIndex(of: "."), let key = Int64(text[..<end]),
            let id = AuctionID(text[text.index(after: end)...])
        else { return nil }
        self.init(key: key, id: id.text)
    }

    package var text: String { "\(key).\(id)" }
}

/// Some rows, and where the next ones begin, if there are more.
package struct Page<Row: Sendable>: Sendable {
    package let rows: [Row]
    package let next: PageCursor?

    /// - Parameter rows: one more than `limit`, if there are so many.
    init(_ rows: [Row], limit: Int, cursor: (Row) -> PageCursor) {
        self.rows = Array(rows.prefix(limit))
        next = rows.count > limit ? cursor(rows[limit - 1]) : nil
    }

    fileprivate init(rows: [Row], next: PageCursor?) {
        self.rows = rows
        self.next = next
    }

    func map<Other>(_ transform: (Row) -> Other) -> Page<Other> {
        Page<Other>(rows: rows.map(transform), next: next)
    }
}

/// Which auctions to list, and from where.
package struct AuctionListing: Sendable {
    package enum Order: String, Sendable, CaseIterable {
        case endingSoon = "ending_soon"
        /// Most bids lately.
        case trending
        case newest
    }

    /// `nil`: those that run or are to come, and for ``Order/newest`` all.
    package var status: AuctionStatus?
    package var category: String?
    /// Words, or beginnings of words, that stand in title, category or description.
    package var words: [String] = []
    package var order = Order.endingSoon
    /// 1…100
    package var limit = 20
    package var after: PageCursor?

    package init() {}
}

package enum AuctionLists {
    /// What orders a list: a number, and whether it falls from row to row.
    private struct SortKey {
        let number: String
        /// The same as the index has it, and `$n` in its type.
        let column: String
        let parameter: (String) -> String
        let falls: Bool

        var order: String { "\(column)\(falls ? " DESC" : ""), a.auction_id" }

        /// The rows behind the cursor in the parameters `$n` and `$n+1`; all when these are NULL.
        func isBehind(_ key: Int) -> String {
            let parameter = parameter("$\(key)")
            let sign = falls ? "<" : ">"
            return """
                ($\(key)::bigint IS NULL OR (\(column) \(sign)= \(parameter)
                    AND (\(column) \(sign) \(parameter) OR a.auction_id > $\(key + 1))))
                """
        }
    }

    private static func time(_ column: String, falls: Bool) -> SortKey {
        SortKey(
            number: PostgresText.microseconds(column), column: column,
            parameter: PostgresText.timeInMicroseconds, falls: falls)
    }

    private static func sortKey(_ order: AuctionListing.Order) -> SortKey {
        switch order {
        case .endingSoon: time("a.ends_at", falls: false)
        case .trending:
            SortKey(number: "a.trend", column: "a.trend", parameter: { "\($0)::bigint" }, falls: true)
        case .newest: time("a.created_at", falls: true)
        }
    }

    /// Public auctions.
    package static func page(
        _ connection: PostgresConnection, _ listing: AuctionListing
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        let key = sortKey(listing.order)
        var filter = "a.auction_id NOT LIKE 'prv\\_%' AND \(key.isBehind(1))"
        var parameters: [String?] = [
            listing.after.map { "\($0.key)" }, listing.after?.id, "\(listing.limit + 1)",
        ]
        func require(_ condition: (String) -> String, _ value: String) {
            parameters.append(value)
            filter += " AND " + condition("$\(parameters.count)")
        }
        // Only what is asked for stands in the statement: so each form is planned for its own index.
        if let status = listing.status {
            require({ "a.status = \($0)" }, status.rawValue)
        } else if listing.order != .newest {
            filter += " AND a.status IN ('scheduled', 'active')"
        }
        if let category = listing.category { require({ "a.category = \($0)" }, category) }
        if !listing.words.isEmpty {
            require(
                {
                    "to_tsvector('english', a.title || ' ' || a.category || ' ' || a.description) "
                        + "@@ to_tsquery('english', \($0))"
                }, PostgresText.prefixQuery(listing.words))
        }
        return try page(connection, filter, key, "", parameters, limit: listing.limit)
    }

    /// The auctions that a user sells, private ones too, the newest first.
    package static func ofSeller(
        _ connection: PostgresConnection, _ userID: String, after cursor: PageCursor?, limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        let key = time("a.created_at", falls: true)
        return try page(
            connection, "a.seller_id = $4 AND \(key.isBehind(1))", key, "",
            [cursor.map { "\($0.key)" }, cursor?.id, "\(limit + 1)", userID], limit: limit)
    }

    /// What a user watches, the last added first.
    package static func watched(
        _ connection: PostgresConnection, by userID: String, after cursor: PageCursor?, limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        let key = time("w.added_at", falls: true)
        return try page(
            connection, "w.user_id = $4 AND \(key.isBehind(1))", key, "JOIN watchlist w USING (auction_id)",
            [cursor.map { "\($0.key)" }, cursor?.id, "\(limit + 1)", userID], limit: limit)
    }

    /// Parameters 1 to 3 are the cursor's two parts and the number of rows.
    private static func page(
        _ connection: PostgresConnection, _ filter: String, _ key: SortKey, _ join: String,
        _ parameters: [String?], limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        let query = AuctionRecords.recordQuery(filter, key: key.number, join: join)
        let rows = try connection.query("\(query) ORDER BY \(key.order) LIMIT $3::bigint", parameters)
        let found = try AuctionRecords.records(connection, rows)
        return Page(found, limit: limit) { PageCursor(key: $0.key, id: $0.record.auction.id.text) }.map(
            \.record)
    }
}
