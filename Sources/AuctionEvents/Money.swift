// Money inside the services: an integer number of cents, read from and written to decimal text without ever
// passing through binary floating point.

/// An amount of money in cents, 0 … 99,999,999,999,999.
package struct Money: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The largest amount: just under 10¹² whole units, so that cents stay exact in a JavaScript number
    /// (2⁵³).
    package static let maximumCents: Int64 = 99_999_999_999_999

    package let cents: Int64

    package init(cents: Int64) {
        self.cents = cents
    }

    /// Reads a JSON number such as `12`, `12.5` or `12.50`. `nil` for a sign, an exponent, more than two
    /// decimals that are not zero, or an amount over the maximum.
    package init?(text: some StringProtocol) {
        var cents: Int64 = 0
        var wholeDigits = 0
        var decimals = -1
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                let digit = Int64(byte - UInt8(ascii: "0"))
                if decimals >= 2 {
                    guard digit == 0 else { return nil }
                    continue
                }
                if decimals >= 0 { decimals += 1 } else { wholeDigits += 1 }
                cents = cents * 10 + digit
                guard cents <= Self.maximumCents else { return nil }
            case UInt8(ascii: ".") where decimals < 0: decimals = 0
            default: return nil
            }
        }
        guard wholeDigits > 0, decimals != 0 else { return nil }
        for _ in 0..<(2 - max(decimals, 0)) { cents *= 10 }
        guard cents <= Self.maximumCents else { return nil }
        self.cents = cents
    }

    /// The amount as a JSON number: `12`, or with two decimals `12.50`.
    package var description: String {
        let (whole, rest) = cents.quotientAndRemainder(dividingBy: 100)
        guard rest != 0 else { return "\(whole)" }
        return "\(whole).\(rest < 10 ? "0" : "")\(rest)"
    }

    package static func < (left: Money, right: Money) -> Bool { left.cents < right.cents }
    package static func + (left: Money, right: Money) -> Money { Money(cents: left.cents + right.cents) }
}
