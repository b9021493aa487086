// A strict JSON reader that hardly ever allocates: it walks one object's members and checks everything in
// between. The gateway needs three fields of each event and the certainty that the rest is JSON; the payload
// stays as published. `JSONValue.swift` reads whole values by the same rules.

/// Walks the members of one JSON object (RFC 8259) in UTF-8 text that the caller has already validated.
package struct JSONScanner {
    /// Arrays and objects nested deeper than this are refused.
    package static let maximumDepth = 32

    package enum Failure: Error, Equatable {
        case malformed
        /// An object has a member twice, at any depth.
        case duplicateMember
    }

    package enum Kind: Sendable {
        case string, number, object, array, boolean, null
    }

    /// A member of the object: byte ranges of its key and value. A string's range leaves out its quotes.
    package struct Member {
        package let key: Range<Int>
        package let value: Range<Int>
        package let kind: Kind
        /// Whether the key is written with escapes, such as `\u0074ype`.
        package let isKeyEscaped: Bool
        /// Whether the value is a string that is written with escapes.
        package let isValueEscaped: Bool
        /// Where the member begins (its key's quote), for cutting it out.
        package let start: Int
        /// Where the member ends (after its value).
        package let end: Int
    }

    private(set) var position = 0
    private var started = false
    private var keys = JSONKeys()
    /// Whether the string read last has escapes.
    private(set) var hasEscapes = false

    package init() {}

    /// The next member, or `nil` after the last one, when nothing but white space may follow the object.
    package mutating func next(in bytes: Span<UInt8>) throws(Failure) -> Member? {
        skipWhitespace(bytes)
        if !started {
            try expect(UInt8(ascii: "{"), bytes)
            started = true
            skipWhitespace(bytes)
            if peek(bytes) == UInt8(ascii: "}") { return try finish(bytes) }
        } else if peek(bytes) == UInt8(ascii: ",") {
            position += 1
            skipWhitespace(bytes)
        } else {
            return try finish(bytes)
        }
        let start = position
        let key = try string(bytes)
        let isKeyEscaped = hasEscapes
        guard keys.insert(key, isEscaped: isKeyEscaped, bytes) else { throw .duplicateMember }
        try colon(bytes)
        let valueStart = position
        let kind = try value(bytes, depth: 1)
        let range = kind == .string ? valueStart + 1..<position - 1 : valueStart..<position
        return Member(
            key: key, value: range, kind: kind, isKeyEscaped: isKeyEscaped,
            isValueEscaped: kind == .string && hasEscapes, start: start, end: position)
    }

    /// Reads a member's key and the colon behind it.
    /// - Parameters:
    ///   - keys: of the object, so far.
    ///   - isEscaped: is set to whether the key has escapes.
    mutating func key(
        _ bytes: Span<UInt8>, _ keys: inout JSONKeys, isEscaped: inout Bool
    ) throws(Failure) -> Range<Int> {
        let key = try string(bytes)
        isEscaped = hasEscapes
        guard keys.insert(key, isEscaped: hasEscapes, bytes) else { throw .duplicateMember }
        try colon(bytes)
        return key
    }

    private mutating func colon(_ bytes: Span<UInt8>) throws(Failure) {
        skipWhitespace(bytes)
        try expect(UInt8(ascii: ":"), bytes)
        skipWhitespace(bytes)
    }

    private mutating func finish(_ bytes: Span<UInt8>) throws(Failure) -> Member? {
        try expect(UInt8(ascii: "}"), bytes)
        skipWhitespace(bytes)
        guard position == bytes.count else { throw .malformed }
        return nil
    }

    mutating func value(_ bytes: Span<UInt8>, depth: Int) throws(Failure) -> Kind {
        switch peek(bytes) {
        case UInt8(ascii: "\""):
            _ = try string(bytes)
            return .string
        case UInt8(ascii: "{"):
            try container(bytes, depth: depth, close: UInt8(ascii: "}"), keyed: true)
            return .object
        case UInt8(ascii: "["):
            try container(bytes, depth: depth, close: UInt8(ascii: "]"), keyed: false)
            return .array
        case UInt8(ascii: "t"):
            try literal("true", bytes)
            return .boolean
        case UInt8(ascii: "f"):
            try literal("false", bytes)
            return .boolean
        case UInt8(ascii: "n"):
            try literal("null", bytes)
            return .null
        default:
            try number(bytes)
            return .number
        }
    }

    private mutating func container(
        _ bytes: Span<UInt8>, depth: Int, close: UInt8, keyed: Bool
    ) throws(Failure) {
        guard depth < Self.maximumDepth else { throw .malformed }
        position += 1
        skipWhitespace(bytes)
        if peek(bytes) == close {
            position += 1
            return
        }
        var keys = JSONKeys()
        while true {
            skipWhitespace(bytes)
            var isEscaped = false
            if keyed { _ = try key(bytes, &keys, isEscaped: &isEscaped) }
            _ = try value(bytes, depth: depth + 1)
            skipWhitespace(bytes)
            if peek(bytes) == UInt8(ascii: ",") {
                position += 1
            } else {
                return try expect(close, bytes)
            }
        }
    }

    mutating func string(_ bytes: Span<UInt8>) throws(Failure) -> Range<Int> {
        try expect(UInt8(ascii: "\""), bytes)
        let start = position
        hasEscapes = false
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return start..<position - 1
            case UInt8(ascii: "\\"):
                hasEscapes = true
                try escape(bytes)
            case 0..<0x20: throw .malformed
            default: continue
            }
        }
        throw .malformed
    }

    private mutating func escape(_ bytes: Span<UInt8>) throws(Failure) {
        guard let byte = peek(bytes) else { throw .malformed }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return
        case UInt8(ascii: "u"):
            for _ in 0..<4 {
                guard let digit = peek(bytes), Self.isHexadecimal(digit) else { throw .malformed }
                position += 1
            }
        default: throw .malformed
        }
    }

    private mutating func number(_ bytes: Span<UInt8>) throws(Failure) {
        if peek(bytes) == UInt8(ascii: "-") { position += 1 }
        if peek(bytes) == UInt8(ascii: "0") { position += 1 } else { try digits(bytes) }
        if peek(bytes) == UInt8(ascii: ".") {
            position += 1
            try digits(bytes)
        }
        if let byte = peek(bytes), byte | 0x20 == UInt8(ascii: "e") {
            position += 1
            if let sign = peek(bytes), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") {
                position += 1
            }
            try digits(bytes)
        }
    }

    private mutating func digits(_ bytes: Span<UInt8>) throws(Failure) {
        let start = position
        while let byte = peek(bytes), byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
        guard position > start else { throw .malformed }
    }

    private mutating func literal(_ text: StaticString, _ bytes: Span<UInt8>) throws(Failure) {
        for index in 0..<text.utf8CodeUnitCount {
            try expect(text.utf8Start[index], bytes)
        }
    }

    mutating func expect(_ byte: UInt8, _ bytes: Span<UInt8>) throws(Failure) {
        guard peek(bytes) == byte else { throw .malformed }
        position += 1
    }

    /// Passes over bytes that ``peek(_:)`` has shown.
    mutating func skip(_ count: Int) { position += count }

    func peek(_ bytes: Span<UInt8>) -> UInt8? {
        position < bytes.count ? bytes[position] : nil
    }

    mutating func skipWhitespace(_ bytes: Span<UInt8>) {
        while let byte = peek(bytes), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
            position += 1
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}

extension Span<UInt8> {
    /// Whether the bytes in `range` are exactly `text`.
    package func matches(_ text: StaticString, in range: Range<Int>) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        for offset in 0..<range.count where self[range.lowerBound + offset] != text.utf8Start[offset] {
            return false
        }
        return true
    }

    /// Whether the bytes in `range` are exactly the UTF-8 of `text`.
    package func matches(_ text: String, in range: Range<Int>) -> Bool {
        var index = range.lowerBound
        for byte in text.utf8 {
            guard index < range.upperBound, self[index] == byte else { return false }
            index += 1
        }
        return index == range.upperBound
    }

    /// Whether a string's content is `text`, which has no character that needs an escape.
    package func matches(_ text: StaticString, in range: Range<Int>, isEscaped: Bool) -> Bool {
        guard isEscaped else { return matches(text, in: range) }
        let plain = unescaped(range)
        return plain.span.matches(text, in: plain.indices)
    }

    /// Whether a member's key is `name`.
    package func isKey(_ name: StaticString, of member: JSONScanner.Member) -> Bool {
        matches(name, in: member.key, isEscaped: member.isKeyEscaped)
    }

    /// The same for any text.
    package func matches(_ text: String, in range: Range<Int>, isEscaped: Bool) -> Bool {
        guard isEscaped else { return matches(text, in: range) }
        let plain = unescaped(range)
        return plain.span.matches(text, in: plain.indices)
    }

    /// A JSON string's content (RFC 8259, 7) without its escapes. Half of a surrogate pair becomes the three
    /// bytes that its number would have in UTF-8, which are no UTF-8.
    /// - Parameter range: between the quotes of a string that was checked.
    package func unescaped(_ range: Range<Int>) -> [UInt8] {
        var plain: [UInt8] = []
        plain.reserveCapacity(range.count)
        var index = range.lowerBound
        func unit(at start: Int) -> UInt32? {
            guard start + 6 <= range.upperBound, self[start] == UInt8(ascii: "\\"),
                self[start + 1] == UInt8(ascii: "u")
            else { return nil }
            return (start + 2..<start + 6).reduce(0) { number, place in
                let byte = self[place]
                let digit =
                    byte <= UInt8(ascii: "9")
                    ? byte - UInt8(ascii: "0") : (byte | 0x20) - UInt8(ascii: "a") + 10
                return number << 4 | UInt32(digit)
            }
        }
        while index < range.upperBound {
            guard self[index] == UInt8(ascii: "\\") else {
                plain.append(self[index])
                index += 1
                continue
            }
            guard var scalar = unit(at: index) else {
                switch self[index + 1] {
                case UInt8(ascii: "b"): plain.append(0x08)
                case UInt8(ascii: "f"): plain.append(0x0C)
                case UInt8(ascii: "n"): plain.append(0x0A)
                case UInt8(ascii: "r"): plain.append(0x0D)
                case UInt8(ascii: "t"): plain.append(0x09)
                default: plain.append(self[index + 1])
                }
                index += 2
                continue
            }
            index += 6
            if (0xD800...0xDBFF).contains(scalar), let low = unit(at: index), (0xDC00...0xDFFF).contains(low)
            {
                scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                index += 6
            }
            switch scalar {
            case ..<0x80: plain.append(UInt8(scalar))
            case ..<0x800: plain += [0xC0 | UInt8(scalar >> 6), 0x80 | UInt8(scalar & 63)]
            case ..<0x10000:
                plain += [
                    0xE0 | UInt8(scalar >> 12), 0x80 | UInt8(scalar >> 6 & 63), 0x80 | UInt8(scalar & 63),
                ]
            default:
                plain += [
                    0xF0 | UInt8(scalar >> 18), 0x80 | UInt8(scalar >> 12 & 63),
                    0x80 | UInt8(scalar >> 6 & 63),
                    0x80 | UInt8(scalar & 63),
                ]
            }
        }
        return plain
    }

    /// The bytes in `range` read as a decimal number without sign, or `nil`; refuses more than 16 digits.
    package func decimal(in range: Range<Int>) -> UInt64? {
        guard (1...16).contains(range.count) else { return nil }
        var sum: UInt64 = 0
        for index in range {
            let byte = self[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            sum = sum * 10 + UInt64(byte - UInt8(ascii: "0"))
        }
        return sum
    }
}
