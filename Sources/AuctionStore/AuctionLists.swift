// Lists auctions in pages. A page begins after the last row of the previous page. Every page costs the same,
// however deep it is. Rows that appear or vanish in between do not shift it.

package import AuctionEvents
import Bidding

/// The end of a page: the last row's sort number, and its id, which decides between equal numbers.
package struct PageCursor: Sendable, Equatable {
    /// Microseconds up to the year 2286: 16 digits.
    private static let keys: ClosedRange<Int64> = 0...9_999_999_999_999_999

    package let key: Int64
    package let id: String

    init(key: Int64, id: String) {
        self.key = key
        self.id = id
    }

    /// Reads ``text``; `nil` for anything else.
    package init?(_ text: some StringProtocol) {
        guard let end = text.firstIndex(of: "."), let key = Int64(text[..<end]), Self.keys.contains(key),
            "\(key)" == text[..<end],
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

    init(rows: [Row], next: PageCursor?) {
        self.rows = rows
        self.next = next
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

    /// `nil` lists active and scheduled auctions, or all auctions for ``Order/newest``.
    package var status: AuctionStatus?
    package var category: String?
    /// Words, or beginnings of words, that stand in title, category or description; of letters and digits,
    /// lower case.
    package var words: [String] = []
    /// True for a search. A search without words finds nothing.
    package var isSearch = false
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
        /// The column as the index has it. `parameter` casts `$n` to its type.
        let column: String
        let parameter: (String) -> String
        let falls: Bool

        var order: String { "\(column)\(falls ? " DESC" : ""), a.auction_id" }
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

    /// Conditions and their parameters. The statement contains only the conditions that are needed, so that
    /// PostgreSQL plans each form of it for its own index.
    private struct Filter {
        private(set) var conditions: [String] = []
        private(set) var parameters: [String?] = []

        mutating func require(_ condition: String) { conditions.append(condition) }

        mutating func parameter(_ value: String) -> String {
            parameters.append(value)
            return "$\(parameters.count)"
        }

        /// Only the rows behind the cursor.
        mutating func begin(after cursor: PageCursor?, _ key: SortKey) {
            guard let cursor else { return }
            let number = key.parameter(parameter("\(cursor.key)"))
            let id = parameter(cursor.id)
            let sign = key.falls ? "<" : ">"
            require("\(key.column) \(sign)= \(number)")
            require("(\(key.column) \(sign) \(number) OR a.auction_id > \(id))")
        }
    }

    /// Public auctions.
    package static func page(
        _ connection: PostgresConnection, _ listing: AuctionListing
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        guard !listing.isSearch || !listing.words.isEmpty else { return Page(rows: [], next: nil) }
        var filter = Filter()
        filter.require("a.auction_id NOT LIKE 'prv\\_%'")
        if let status = listing.status {
            filter.require("a.status = \(filter.parameter(status.rawValue))")
        } else if listing.order != .newest {
            filter.require("a.status IN ('scheduled', 'active')")
        }
        if let category = listing.category { filter.require("a.category = \(filter.parameter(category))") }
        if !listing.words.isEmpty {
            let query = listing.words.map { word in
                let beginning = filter.parameter("'\(word)':*")
                return
                    "(to_tsquery('simple', \(beginning)) || plainto_tsquery('english', \(filter.parameter(word))))"
            }.joined(separator: " && ")
            // Find the words first, with their index. The planner cannot tell how rare a word is.
            filter.require(
                """
                a.auction_id IN (WITH found AS MATERIALIZED (SELECT auction_id FROM auctions
                    WHERE auction_words(title, category, description) @@ (\(query))) SELECT auction_id FROM found)
                """)
        }
        return try page(connection, filter, sortKey(listing.order), after: listing.after, listing.limit)
    }

    /// The auctions that a user sells, private ones too, the newest first.
    package static func ofSeller(
        _ connection: PostgresConnection, _ userID: String, after cursor: PageCursor?, limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        var filter = Filter()
        filter.require("a.seller_id = \(filter.parameter(userID))")
        return try page(connection, filter, time("a.created_at", falls: true), after: cursor, limit)
    }

    /// What a user watches, the last added first.
    package static func watched(
        _ connection: PostgresConnection, by userID: String, after cursor: PageCursor?, limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        var filter = Filter()
        filter.require("w.user_id = \(filter.parameter(userID))")
        return try page(
            connection, filter, time("w.added_at", falls: true), join: "JOIN watchlist w USING (auction_id)",
            after: cursor, limit)
    }

    private static func page(
        _ connection: PostgresConnection, _ filter: Filter, _ key: SortKey, join: String = "",
        after cursor: PageCursor?, _ limit: Int
    ) throws(DatabaseError) -> Page<AuctionRecord> {
        var filter = filter
        filter.begin(after: cursor, key)
        let count = filter.parameter("\(limit + 1)")
        let query = AuctionRecords.recordQuery(
            filter.conditions.joined(separator: " AND "), key: key.number, join: join)
        let rows = try connection.query(
            "\(query) ORDER BY \(key.order) LIMIT \(count)::bigint", filter.parameters)
        return Page(
            rows: AuctionRecords.records(connection, rows, limit: limit),
            next: rows.count > limit ? try AuctionRecords.cursor(rows, limit - 1) : nil)
    }
}
