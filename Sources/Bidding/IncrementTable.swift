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
        rows = [Row(from: Money(minorUnits: 0, decimals: increment.decimals), increment: increment)]
    }

    /// `nil` unless there are 1–32 rows, the first from 0, strictly rising, each increment above 0.
    package init?(rows: [Row]) {
        guard (1...Self.maximumRows).contains(rows.count), rows[0].from.minorUnits == 0,
            rows.allSatisfy({ $0.increment.minorUnits > 0 }),
            zip(rows, rows.dropFirst()).allSatisfy({ $0.from < $1.from })
        else { return nil }
        self.rows = rows
    }

    /// Reads ``stored``.
    /// - Parameter decimals: of the auction's currency.
    package init?(stored: some StringProtocol, decimals: Int) {
        let rows = stored.split(separator: ",").compactMap { pair -> Row? in
            let parts = pair.split(separator: ":").compactMap { Int64($0) }
            guard parts.count == 2 else { return nil }
            let amounts = parts.map { Money(minorUnits: $0, decimals: decimals) }
            return Row(from: amounts[0], increment: amounts[1])
        }
        self.init(rows: rows)
    }

    /// The form kept in the database: `from:increment` in minor units, separated by commas.
    package var stored: String {
        rows.map { "\($0.from.minorUnits):\($0.increment.minorUnits)" }.joined(separator: ",")
    }

    /// The same table in a currency's decimals; `nil` when an amount has more.
    package func converted(toDecimals decimals: Int) -> IncrementTable? {
        let converted = rows.compactMap { row -> Row? in
            guard let from = row.from.converted(toDecimals: decimals),
                let increment = row.increment.converted(toDecimals: decimals)
            else { return nil }
            return Row(from: from, increment: increment)
        }
        return converted.count == rows.count ? IncrementTable(rows: converted) : nil
    }

    /// True when the increment is the same at every price.
    package var isFixed: Bool { rows.count == 1 }

    package func increment(at price: Money) -> Money {
        rows.last { $0.from <= price }?.increment ?? rows[0].increment
    }
}
