// Moments as the contract writes them: RFC 3339, UTC, milliseconds. Formatting is by hand because the gateway
// stamps one into every snapshot.

/// A moment in milliseconds since 1970-01-01T00:00:00Z.
package struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The length of ``description`` for the years 0–9999.
    package static let textLength = 24

    package let milliseconds: Int64

    package init(milliseconds: Int64) {
        self.milliseconds = milliseconds
    }

    /// RFC 3339 in UTC with milliseconds, as `2026-01-10T19:30:00.123Z`.
    package var description: String {
        String(unsafeUninitializedCapacity: Self.textLength) { buffer in
            write { buffer[$0] = $1 }
            return Self.textLength
        }
    }

    /// Gives the 24 characters of ``description`` one by one to `put(offset, byte)`, without allocating.
    package func write(_ put: (Int, UInt8) -> Void) {
        let (days, withinDay) = milliseconds.flooredQuotient(by: 86_400_000)
        let (year, month, day) = Self.civil(fromDays: days)
        func digits(_ value: Int64, count: Int, at offset: Int) {
            var rest = value
            for index in stride(from: offset + count - 1, through: offset, by: -1) {
                put(index, UInt8(ascii: "0") + UInt8(rest % 10))
                rest /= 10
            }
        }
        digits(year, count: 4, at: 0)
        put(4, UInt8(ascii: "-"))
        digits(month, count: 2, at: 5)
        put(7, UInt8(ascii: "-"))
        digits(day, count: 2, at: 8)
        put(10, UInt8(ascii: "T"))
        digits(withinDay / 3_600_000, count: 2, at: 11)
        put(13, UInt8(ascii: ":"))
        digits(withinDay / 60_000 % 60, count: 2, at: 14)
        put(16, UInt8(ascii: ":"))
        digits(withinDay / 1_000 % 60, count: 2, at: 17)
        put(19, UInt8(ascii: "."))
        digits(withinDay % 1_000, count: 3, at: 20)
        put(23, UInt8(ascii: "Z"))
    }

    /// Reads the form that this type writes, `2026-01-10T19:30:00.123Z`, without a copy; `nil` for any other.
    package init?(_ bytes: Span<UInt8>, in range: Range<Int>) {
        guard range.count == Self.textLength else { return nil }
        let start = range.lowerBound
        var isValid = true
        func number(_ offset: Int, _ count: Int) -> Int64 {
            var sum: Int64 = 0
            for index in start + offset..<start + offset + count {
                let digit = bytes[index] &- UInt8(ascii: "0")
                if digit > 9 { isValid = false }
                sum = sum * 10 + Int64(digit)
            }
            return sum
        }
        for (offset, character) in Self.separators where bytes[start + offset] != character {
            isValid = false
        }
        let (year, month, day) = (number(0, 4), number(5, 2), number(8, 2))
        let seconds = number(11, 2) * 3_600 + number(14, 2) * 60 + number(17, 2)
        let fraction = number(20, 3)
        guard isValid, (1...12).contains(month), (1...31).contains(day) else { return nil }
        self.init(
            milliseconds: (Self.days(fromCivil: year, month, day) * 86_400 + seconds) * 1_000 + fraction)
    }

    private static let separators: [(Int, UInt8)] = [
        (4, UInt8(ascii: "-")), (7, UInt8(ascii: "-")), (10, UInt8(ascii: "T")), (13, UInt8(ascii: ":")),
        (16, UInt8(ascii: ":")), (19, UInt8(ascii: ".")), (23, UInt8(ascii: "Z")),
    ]

    /// Reads RFC 3339 text with `Z` or a numeric offset; fractions beyond milliseconds are cut off.
    package init?(text: some StringProtocol) {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int64? {
            guard range.upperBound <= bytes.count else { return nil }
            return bytes[range].reduce(Int64?.some(0)) { sum, byte in
                guard let sum, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
                return sum * 10 + Int64(byte - UInt8(ascii: "0"))
            }
        }
        func has(_ character: Unicode.Scalar, at index: Int) -> Bool {
            index < bytes.count && (bytes[index] | 0x20) == (UInt8(ascii: character) | 0x20)
        }
        guard let year = number(0..<4), has("-", at: 4), let month = number(5..<7), has("-", at: 7),
            let day = number(8..<10), has("T", at: 10), let hour = number(11..<13), has(":", at: 13),
            let minute = number(14..<16), has(":", at: 16), let second = number(17..<19),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second < 60
        else { return nil }
        var index = 19
        var fraction: Int64 = 0
        if has(".", at: index) {
            index += 1
            let start = index
            while let digit = number(index..<index + 1) {
                if index - start < 3 { fraction = fraction * 10 + digit }
                index += 1
            }
            guard index > start else { return nil }
            for _ in 0..<max(0, 3 - (index - start)) { fraction *= 10 }
        }
        var offsetMinutes: Int64 = 0
        if has("Z", at: index) {
            index += 1
        } else {
            let sign: Int64
            if has("+", at: index) { sign = 1 } else if has("-", at: index) { sign = -1 } else { return nil }
            guard let hours = number(index + 1..<index + 3), has(":", at: index + 3),
                let minutes = number(index + 4..<index + 6), hours < 24, minutes < 60
            else { return nil }
            offsetMinutes = sign * (hours * 60 + minutes)
            index += 6
        }
        guard index == bytes.count else { return nil }
        let days = Self.days(fromCivil: year, month, day)
        guard Self.civil(fromDays: days) == (year, month, day) else { return nil }
        let seconds = days * 86_400 + hour * 3_600 + (minute - offsetMinutes) * 60 + second
        self.init(milliseconds: seconds * 1_000 + fraction)
    }

    package static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.milliseconds < right.milliseconds
    }

    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": proleptic Gregorian calendar, day 0 =
    // 1970-01-01.
    private static func civil(fromDays days: Int64) -> (Int64, Int64, Int64) {
        let (era, dayOfEra) = (days + 719_468).flooredQuotient(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }

    private static func days(fromCivil year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let shiftedYear = month <= 2 ? year - 1 : year
        let (era, yearOfEra) = shiftedYear.flooredQuotient(by: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

extension Int64 {
    fileprivate func flooredQuotient(by divisor: Int64) -> (Int64, Int64) {
        let remainder = ((self % divisor) + divisor) % divisor
        return ((self - remainder) / divisor, remainder)
    }
}
