// By how much a bid must exceed the price.

package import AuctionEvents

/// Increments by price: the last row whose `from` is at most the price applies.
package struct IncrementTable: Sendable, Equatable {
    package struct Row: Sendable, Equatable {
        package let from: Money
        package let increment: Money

        package init(from: Money, increment: Money) {
            self.from = from
            self.increment = increment
        }
    }

    /// The most rows a table may have.
    package static let maximumRows = 32

    package let rows: [Row]

    /// One increment at every price.
    package init(fixed increment: Money) {
        rows = [Row(from: Money(cents: 0), increment: increment)]
    }

    /// `nil` unless there are 1–32 rows, the first from 0, strictly rising, each increment at least a cent.
    package init?(rows: [Row]) {
        guard (1...Self.maximumRows).contains(rows.count), rows[0].from.cents == 0,
            rows.allSatisfy({ $0.increment.cents > 0 }),
            zip(rows, rows.dropFirst()).allSatisfy({ $0.from < $1.from })
        else { return nil }
        self.rows = rows
    }

    /// Reads ``description``.
    package init?(stored: some StringProtocol) {
        let rows = stored.split(separator: ",").compactMap { pair -> Row? in
            let parts = pair.split(separator: ":").compactMap { Int64($0) }
            return parts.count == 2
                ? Row(from: Money(cents: parts[0]), increment: Money(cents: parts[1])) : nil
        }
        self.init(rows: rows)
    }

    /// The form kept in the database: `from:increment` in cents, separated by commas.
    package var stored: String {
        rows.map { "\($0.from.cents):\($0.increment.cents)" }.joined(separator: ",")
    }

    package func increment(at price: Money) -> Money {
        rows.last { $0.from <= price }?.increment ?? rows[0].increment
    }
}
