// A JSON number, exactly as it was written. Binary floating point cannot represent most decimal amounts.

/// A number in decimal form: its digits without zeros at either end, and a power of ten.
package struct DecimalNumber: Sendable, Equatable {
    package let isNegative: Bool
    /// The digits as a number; 0 for zero.
    private let digits: Int64
    /// The number is the digits times ten to this power. 0 for zero.
    package let exponent: Int

    /// Reads a number that the caller has checked against JSON's grammar (RFC 8259, 6). `nil` when it has
    /// more than 18 significant digits, or an exponent that no number in use has.
    package init?(_ text: some StringProtocol) {
        var digits: Int64 = 0
        var count = 0
        // Zeros that matter only if another digit follows.
        var zeros = 0
        var exponent = 0
        var isNegative = false
        var isFraction = false
        var rest = Substring(text).utf8[...]
        if rest.first == UInt8(ascii: "-") {
            isNegative = true
            rest.removeFirst()
        }
        while let byte = rest.first {
            if byte == UInt8(ascii: ".") {
                isFraction = true
            } else if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
                if isFraction { exponent -= 1 }
                if byte == UInt8(ascii: "0") {
                    if count > 0 { zeros += 1 }
                } else {
                    guard count + zeros < 18 else { return nil }
                    for _ in 0..<zeros { digits *= 10 }
                    digits = digits * 10 + Int64(byte - UInt8(ascii: "0"))
                    count += zeros + 1
                    zeros = 0
                }
            } else {
                break
            }
            rest.removeFirst()
        }
        exponent += zeros
        if rest.first.map({ $0 | 0x20 == UInt8(ascii: "e") }) == true {
            let power = String(Substring(rest.dropFirst()))
            if digits != 0 {
                guard power.utf8.count <= 12, let value = Int(power.drop { $0 == "+" }),
                    abs(value) < 1_000_000
                else { return nil }
                exponent += value
            }
        }
        self.digits = digits
        self.isNegative = isNegative && digits != 0
        self.exponent = digits == 0 ? 0 : exponent
    }

    /// The number times ten to the power `power`; `nil` when that is no whole number, or too large. The sign
    /// counts.
    package func multiplied(byPowerOfTen power: Int) -> Int64? {
        guard digits != 0 else { return 0 }
        var result = isNegative ? -digits : digits
        let zeros = exponent + power
        guard (0...18).contains(zeros) else { return nil }
        for _ in 0..<zeros {
            let (product, isTooLarge) = result.multipliedReportingOverflow(by: 10)
            guard !isTooLarge else { return nil }
            result = product
        }
        return result
    }

    /// The number itself, if it is whole.
    package var integer: Int64? { multiplied(byPowerOfTen: 0) }
}
