// Money as most tests write it: in cents, of a currency with two decimals.

package import AuctionEvents

extension Money {
    package init(cents: Int64) {
        self.init(minorUnits: cents, decimals: 2)
    }

    /// Of an amount with two decimals.
    package var cents: Int64 { minorUnits }
}

extension Currency {
    package static let dollars = Currency(code: "USD", decimals: 2)
}
