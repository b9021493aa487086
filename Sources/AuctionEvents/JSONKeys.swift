// Finds a key that occurs twice in one JSON object. The first few keys are kept in place and compared one by
// one; an object with more keys gets a set.

struct JSONKeys {
    /// Where a key begins, its length, and whether it has escapes, in one number each.
    private var marks = InlineArray<24, UInt64>(repeating: 0)
    private var count = 0
    private var all: Set<[UInt8]>?

    /// Adds the key in `range` of `bytes`; false when it is there already.
    /// - Parameter isEscaped: `"a"` and `"\u0061"` are the same key.
    mutating func insert(_ range: Range<Int>, isEscaped: Bool, _ bytes: Span<UInt8>) -> Bool {
        if all != nil { return all?.insert(Self.plain(range, isEscaped, bytes)).inserted ?? false }
        for index in 0..<count {
            let mark = marks[index]
            let other = Int(mark >> 32)..<Int(mark >> 32) + Int(mark >> 1 & 0x7FFF_FFFF)
            let isOtherEscaped = mark & 1 == 1
            if isEscaped || isOtherEscaped {
                let isSame = Self.plain(range, isEscaped, bytes) == Self.plain(other, isOtherEscaped, bytes)
                if isSame { return false }
            } else if other.count == range.count, Self.areEqual(range, other, bytes) {
                return false
            }
        }
        guard count == marks.count else {
            marks[count] =
                UInt64(range.lowerBound) << 32 | UInt64(range.count) << 1 | (isEscaped ? 1 : 0)
            count += 1
            return true
        }
        var all: Set<[UInt8]> = [Self.plain(range, isEscaped, bytes)]
        for index in 0..<count {
            let start = Int(marks[index] >> 32)
            all.insert(
                Self.plain(start..<start + Int(marks[index] >> 1 & 0x7FFF_FFFF), marks[index] & 1 == 1, bytes)
            )
        }
        self.all = all
        return true
    }

    private static func areEqual(_ one: Range<Int>, _ other: Range<Int>, _ bytes: Span<UInt8>) -> Bool {
        for offset in 0..<one.count
        where bytes[one.lowerBound + offset] != bytes[other.lowerBound + offset] {
            return false
        }
        return true
    }

    private static func plain(_ range: Range<Int>, _ isEscaped: Bool, _ bytes: Span<UInt8>) -> [UInt8] {
        guard !isEscaped else { return bytes.unescaped(range) }
        return range.map { bytes[$0] }
    }
}
