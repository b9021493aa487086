// Money inside the services: an integer number of minor units, read from and written to decimal text without
// ever passing through binary floating point.

/// A currency, and how many decimals its amounts have.
package struct Currency: Hashable, Sendable {
    /// Three capital letters (ISO 4217).
    package let code: String
    /// 0…4
    package let decimals: Int

    /// A currency with the decimals of ISO 4217; two where the code is not known.
    /// `nil` when `code` is not three capital letters.
    package init?(_ code: String) {
        guard code.utf8.count == 3, code.utf8.allSatisfy({ (65...90).contains($0) }) else { return nil }
        self.init(code: code, decimals: Self.exceptions[code] ?? 2)
    }

    /// A currency as an auction was stored with it.
    /// - Parameter decimals: 0…4
    package init(code: String, decimals: Int) {
        self.code = code
        self.decimals = decimals
    }

    /// Active codes of ISO 4217 that do not have two decimals.
    private static let exceptions: [String: Int] = {
        var decimals: [String: Int] = ["CLF": 4, "UYW": 4]
        for code in [
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV",
            "XAF", "XOF", "XPF",
        ] { decimals[code] = 0 }
        for code in ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"] { decimals[code] = 3 }
        return decimals
    }()
}

/// An amount of money: a whole number of minor units, each 10^-``decimals`` of the currency's unit.
package struct Money: Sendable, CustomStringConvertible {
    /// The most decimals that any currency has.
    package static let mostDecimals = 4

    /// 0 … ``maximumUnits(decimals:)``
    package let minorUnits: Int64
    /// 0…4
    package let decimals: Int

    package init(minorUnits: Int64, decimals: Int) {
        self.minorUnits = minorUnits
        self.decimals = decimals
    }

    /// The largest number of minor units: just under 10¹² whole units, and never over 10¹⁵, so that every
    /// amount is exact in a JavaScript number.
    package static func maximumUnits(decimals: Int) -> Int64 {
        decimals < 3 ? powers[12 + decimals] - 1 : powers[15] - 1
    }

    /// Reads a JSON number, such as `12`, `12.50` or `1.25e1`, with as few decimals as it needs. `nil` for an
    /// amount below zero or over the maximum, and for one with more than four decimals that are not zero.
    package init?(text: some StringProtocol) {
        guard let number = DecimalNumber(text), !number.isNegative else { return nil }
        let decimals = max(0, -number.exponent)
        guard decimals <= Self.mostDecimals, let units = number.multiplied(byPowerOfTen: decimals),
            units <= Self.maximumUnits(decimals: decimals)
        else { return nil }
        self.init(minorUnits: units, decimals: decimals)
    }

    /// The same amount with `decimals` decimals; `nil` when it cannot be written with so few, or is then over
    /// the maximum.
    package func converted(toDecimals decimals: Int) -> Money? {
        guard decimals != self.decimals else { return self }
        let units: Int64
        if decimals > self.decimals {
            let (product, isTooLarge) = minorUnits.multipliedReportingOverflow(
                by: Self.powers[decimals - self.decimals])
            guard !isTooLarge else { return nil }
            units = product
        } else {
            let (quotient, rest) = minorUnits.quotientAndRemainder(
                dividingBy: Self.powers[self.decimals - decimals])
            guard rest == 0 else { return nil }
            units = quotient
        }
        guard units <= Self.maximumUnits(decimals: decimals) else { return nil }
        return Money(minorUnits: units, decimals: decimals)
    }

    /// The sum, at most the maximum.
    package static func + (left: Money, right: Money) -> Money {
        let decimals = max(left.decimals, right.decimals)
        let sum = left.scaled(decimals) &+ right.scaled(decimals)
        return Money(minorUnits: min(sum, maximumUnits(decimals: decimals)), decimals: decimals)
    }

    /// The amount as a JSON number: `12`, or with all decimals `12.50`.
    package var description: String {
        let (whole, rest) = minorUnits.quotientAndRemainder(dividingBy: Self.powers[decimals])
        guard rest != 0 else { return "\(whole)" }
        let digits = "\(rest)"
        return "\(whole)." + String(repeating: "0", count: decimals - digits.utf8.count) + digits
    }

    /// Minor units of a currency with more decimals. No overflow: at most 10¹⁵ × 10⁴ ÷ 10³.
    private func scaled(_ decimals: Int) -> Int64 { minorUnits &* Self.powers[decimals - self.decimals] }

    private static let powers: [Int64] = (0...18).map { power in
        (0..<power).reduce(into: Int64(1)) { value, _ in value *= 10 }
    }
}

extension Money: Comparable, Hashable {
    package static func < (left: Money, right: Money) -> Bool {
        let decimals = max(left.decimals, right.decimals)
        return left.scaled(decimals) < right.scaled(decimals)
    }

    package static func == (left: Money, right: Money) -> Bool { !(left < right) && !(right < left) }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(scaled(Self.mostDecimals))
    }
}
