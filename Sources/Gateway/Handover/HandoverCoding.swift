// The bytes of messages between two gateway processes: integers of eight bytes, and byte strings with their
// length before them. Both processes run on one machine, and the first message carries the version.

struct HandoverWriter {
    private(set) var bytes: [UInt8] = []

    mutating func write(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: UInt64(truncatingIfNeeded: number).littleEndian) {
            bytes.append(contentsOf: $0)
        }
    }

    mutating func write(_ flag: Bool) {
        write(flag ? 1 : 0)
    }

    mutating func write(_ bytes: [UInt8]) {
        write(bytes.count)
        self.bytes += bytes
    }

    mutating func write(_ text: String) {
        write(Array(text.utf8))
    }

    /// Writes whether there is a value, and the value.
    mutating func write<Value>(_ value: Value?, _ body: (inout HandoverWriter, Value) -> Void) {
        write(value != nil)
        if let value { body(&self, value) }
    }

    mutating func write<Element>(_ elements: [Element], _ body: (inout HandoverWriter, Element) -> Void) {
        write(elements.count)
        for element in elements { body(&self, element) }
    }
}

/// The message is not one that this version writes.
struct HandoverMalformed: Error {}

struct HandoverReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) {
        rest = bytes[...]
    }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func number() throws(HandoverMalformed) -> UInt64 {
        guard rest.count >= 8 else { throw HandoverMalformed() }
        defer { rest = rest.dropFirst(8) }
        return rest.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A number that fits `Number`.
    mutating func number<Number: FixedWidthInteger>(
        as: Number.Type
    ) throws(HandoverMalformed) -> Number {
        guard let number = Number(exactly: try number()) else { throw HandoverMalformed() }
        return number
    }

    mutating func flag() throws(HandoverMalformed) -> Bool {
        try number() != 0
    }

    mutating func bytes() throws(HandoverMalformed) -> [UInt8] {
        let count = try number(as: Int.self)
        guard count <= rest.count else { throw HandoverMalformed() }
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    mutating func text() throws(HandoverMalformed) -> String {
        String(decoding: try bytes(), as: UTF8.self)
    }

    mutating func optional<Value>(
        _ body: (inout HandoverReader) throws(HandoverMalformed) -> Value
    ) throws(HandoverMalformed) -> Value? {
        try flag() ? try body(&self) : nil
    }

    mutating func list<Element>(
        _ body: (inout HandoverReader) throws(HandoverMalformed) -> Element
    ) throws(HandoverMalformed) -> [Element] {
        let count = try number(as: Int.self)
        // Each element takes at least a number.
        guard count <= rest.count / 8 else { throw HandoverMalformed() }
        var elements: [Element] = []
        elements.reserveCapacity(count)
        for _ in 0..<count { elements.append(try body(&self)) }
        return elements
    }
}
