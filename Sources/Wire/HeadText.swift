// Comparisons over the bytes of a request head: exact, without regard to case, and in comma-separated lists.

extension Span<UInt8> {
    /// The text in `range`; bytes that are no UTF-8 are replaced.
    package func text(_ range: HeadRange) -> String {
        String(unsafeUninitializedCapacity: range.range.count) { buffer in
            for (offset, index) in range.range.enumerated() { buffer[offset] = self[index] }
            return range.range.count
        }
    }

    /// Whether `start..<end` is exactly `text`.
    func hasText(_ text: StaticString, at start: Int, end: Int) -> Bool {
        guard end - start == text.utf8CodeUnitCount else { return false }
        for offset in 0..<text.utf8CodeUnitCount where self[start + offset] != text.utf8Start[offset] {
            return false
        }
        return true
    }

    /// Whether `range` is `lowercase` without regard to ASCII case.
    package func equalsIgnoringCase(_ lowercase: StaticString, _ range: Range<Int>) -> Bool {
        guard range.count == lowercase.utf8CodeUnitCount else { return false }
        for offset in 0..<range.count {
            var byte = self[range.lowerBound + offset]
            if byte >= UInt8(ascii: "A"), byte <= UInt8(ascii: "Z") { byte |= 0x20 }
            if byte != lowercase.utf8Start[offset] { return false }
        }
        return true
    }

    /// Whether `range` begins with `lowercase` without regard to ASCII case.
    func hasPrefixIgnoringCase(_ lowercase: StaticString, _ range: Range<Int>) -> Bool {
        equalsIgnoringCase(lowercase, range.prefix(lowercase.utf8CodeUnitCount))
    }

    /// Whether the comma-separated list in `range` has the element `lowercase` (ASCII case ignored,
    /// parameters kept).
    package func listContains(_ lowercase: StaticString, _ range: Range<Int>) -> Bool {
        var rest = range
        while let element = nextElement(of: &rest, separator: UInt8(ascii: ",")) {
            if equalsIgnoringCase(lowercase, element) { return true }
        }
        return false
    }

    /// Whether an `Accept` or `Accept-Encoding` value names `lowercase`, with a weight that is not zero (RFC
    /// 9110, 12.5.1). Wildcards do not count: they ask for nothing in particular.
    package func acceptsMediaType(_ lowercase: StaticString, _ range: Range<Int>) -> Bool {
        var rest = range
        while var parameters = nextElement(of: &rest, separator: UInt8(ascii: ",")) {
            guard let type = nextElement(of: &parameters, separator: UInt8(ascii: ";")),
                equalsIgnoringCase(lowercase, type)
            else { continue }
            var isRefused = false
            while let parameter = nextElement(of: &parameters, separator: UInt8(ascii: ";")) {
                let isWeight = parameter.count > 2 && equalsIgnoringCase("q=", parameter.prefix(2))
                if isWeight, parameter.dropFirst(2).allSatisfy({ self[$0] == 0x30 || self[$0] == 0x2E }) {
                    isRefused = true
                }
            }
            if !isRefused { return true }
        }
        return false
    }

    /// Takes the next element, without the blanks around it, off a list; `nil` at its end.
    func nextElement(of rest: inout Range<Int>, separator: UInt8) -> Range<Int>? {
        guard !rest.isEmpty else { return nil }
        var end = rest.lowerBound
        while end < rest.upperBound, self[end] != separator { end += 1 }
        var element = rest.lowerBound..<end
        rest = min(end + 1, rest.upperBound)..<rest.upperBound
        while let first = element.first, self[first] == 0x20 || self[first] == 0x09 { element.removeFirst() }
        while let last = element.last, self[last] == 0x20 || self[last] == 0x09 { element.removeLast() }
        return element
    }
}

/// Percent-encoding (RFC 3986, 2.1).
package enum PercentEncoding {
    /// The decoded text; `nil` when an escape is malformed or the bytes are no UTF-8.
    /// - Parameter plusIsBlank: as in queries of forms.
    package static func decoded(_ text: Substring.UTF8View, plusIsBlank: Bool = false) -> String? {
        var bytes: [UInt8] = []
        var rest = text
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let high = rest.popFirst().flatMap(hexValue),
                    let low = rest.popFirst().flatMap(hexValue)
                else { return nil }
                bytes.append(high << 4 | low)
            } else {
                bytes.append(plusIsBlank && byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func hexValue(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// Reading `a=1&b=2` queries.
package enum QueryString {
    /// The percent-decoded value of the first parameter `name`, as it stands when it cannot be decoded; `nil`
    /// when absent.
    package static func value(_ name: String, in query: String) -> String? {
        // In place: a query may be thousands of empty parameters, and is read several times.
        var rest = Substring(query).utf8
        while !rest.isEmpty {
            let pair = rest.prefix { $0 != UInt8(ascii: "&") }
            let key = pair.prefix { $0 != UInt8(ascii: "=") }
            if !pair.isEmpty, key.elementsEqual(name.utf8) {
                let value = pair.dropFirst(key.count + 1)
                return PercentEncoding.decoded(value, plusIsBlank: true) ?? String(Substring(value))
            }
            rest = rest.dropFirst(pair.count + 1)
        }
        return nil
    }
}
