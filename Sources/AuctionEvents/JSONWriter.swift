// Writes compact JSON into one byte array, in the order of the calls. Used for events, states and the
// gateway's own messages, where money must stay exact and the key order is part of what people read in a log.

/// A compact JSON writer. Calls must nest properly; keys are ASCII and need no escaping.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private var needsComma = false

    package init(capacity: Int = 512) {
        bytes.reserveCapacity(capacity)
    }

    package var text: String { String(decoding: bytes, as: UTF8.self) }

    package mutating func object(_ body: (inout JSONWriter) -> Void) {
        open(UInt8(ascii: "{"), UInt8(ascii: "}"), body)
    }

    package mutating func array(_ body: (inout JSONWriter) -> Void) {
        open(UInt8(ascii: "["), UInt8(ascii: "]"), body)
    }

    package mutating func key(_ key: String) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        bytes.append(contentsOf: key.utf8)
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    package mutating func string(_ value: String) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: bytes.append(contentsOf: #"\n"#.utf8)
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                bytes.append(contentsOf: #"\u00"#.utf8)
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
        needsComma = true
    }

    /// Appends `text`, which must itself be one JSON value.
    package mutating func raw(_ text: String) {
        separate()
        bytes.append(contentsOf: text.utf8)
        needsComma = true
    }

    /// Appends `json`, which must itself be one JSON value.
    package mutating func raw(_ json: some Collection<UInt8>) {
        separate()
        bytes.append(contentsOf: json)
        needsComma = true
    }

    package mutating func null() { raw("null") }

    package mutating func field(_ key: String, _ value: String?) {
        self.key(key)
        if let value { string(value) } else { null() }
    }
    package mutating func field(_ key: String, _ value: Int) { field(key, raw: "\(value)") }
    package mutating func field(_ key: String, _ value: UInt64) { field(key, raw: "\(value)") }
    package mutating func field(_ key: String, _ value: Bool) { field(key, raw: value ? "true" : "false") }
    package mutating func field(_ key: String, _ value: Money?) {
        field(key, raw: value?.description ?? "null")
    }
    package mutating func field(_ key: String, _ value: Timestamp?) {
        self.key(key)
        if let value { string(value.description) } else { null() }
    }
    package mutating func field(_ key: String, raw value: String) {
        self.key(key)
        raw(value)
    }

    private mutating func open(_ first: UInt8, _ last: UInt8, _ body: (inout JSONWriter) -> Void) {
        separate()
        bytes.append(first)
        needsComma = false
        body(&self)
        bytes.append(last)
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        needsComma = false
    }
}
