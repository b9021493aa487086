// A whole JSON value, read strictly (RFC 8259): no trailing comma, no duplicate member, and numbers
// kept as they were written.

package indirect enum JSONValue: Sendable, Equatable {
    case string(String)
    /// The number's text, which is of JSON's grammar.
    case number(String)
    case object([String: JSONValue])
    case array([JSONValue])
    case boolean(Bool)
    case null

    package enum Failure: Error, Equatable {
        case malformed
        /// An object has a member twice.
        case duplicateMember
        /// A string holds half of a surrogate pair, which is no text.
        case loneSurrogate
    }

    /// Reads UTF-8 text that the caller has validated.
    package init(_ bytes: Span<UInt8>) throws(Failure) {
        var reader = Reader()
        reader.scanner.skipWhitespace(bytes)
        self = try reader.value(bytes, depth: 0)
        reader.scanner.skipWhitespace(bytes)
        guard reader.scanner.position == bytes.count else { throw .malformed }
    }

    private struct Reader {
        var scanner = JSONScanner()

        mutating func value(_ bytes: Span<UInt8>, depth: Int) throws(Failure) -> JSONValue {
            let start = scanner.position
            switch scanner.peek(bytes) {
            case UInt8(ascii: "{"): return .object(try object(bytes, depth: depth + 1))
            case UInt8(ascii: "["): return .array(try array(bytes, depth: depth + 1))
            default: break
            }
            let kind: JSONScanner.Kind
            do throws(JSONScanner.Failure) {
                kind = try scanner.value(bytes, depth: depth)
            } catch {
                throw .malformed
            }
            switch kind {
            case .string:
                return .string(
                    try text(start + 1..<scanner.position - 1, isEscaped: scanner.hasEscapes, bytes))
            case .number: return .number(try text(start..<scanner.position, isEscaped: false, bytes))
            case .boolean: return .boolean(bytes[start] == UInt8(ascii: "t"))
            case .null: return .null
            case .object, .array: throw .malformed
            }
        }

        private mutating func object(
            _ bytes: Span<UInt8>, depth: Int
        ) throws(Failure) -> [String: JSONValue] {
            var members: [String: JSONValue] = [:]
            var keys = JSONKeys()
            try elements(bytes, depth: depth, close: UInt8(ascii: "}")) { (reader) throws(Failure) in
                let range: Range<Int>
                do throws(JSONScanner.Failure) {
                    range = try reader.scanner.key(bytes, &keys, isEscaped: &reader.isKeyEscaped)
                } catch {
                    throw error == .duplicateMember ? .duplicateMember : .malformed
                }
                let key = try reader.text(range, isEscaped: reader.isKeyEscaped, bytes)
                let value = try reader.value(bytes, depth: depth)
                // Swift treats two spellings of one character as the same text, but they are not the same
                // key.
                guard members.updateValue(value, forKey: key) == nil else { throw .duplicateMember }
            }
            return members
        }

        private mutating func array(_ bytes: Span<UInt8>, depth: Int) throws(Failure) -> [JSONValue] {
            var values: [JSONValue] = []
            try elements(bytes, depth: depth, close: UInt8(ascii: "]")) { (reader) throws(Failure) in
                values.append(try reader.value(bytes, depth: depth))
            }
            return values
        }

        /// Reads what stands between commas, from the opening bracket to the closing one.
        private mutating func elements(
            _ bytes: Span<UInt8>, depth: Int, close: UInt8,
            _ element: (inout Reader) throws(Failure) -> Void
        ) throws(Failure) {
            guard depth < JSONScanner.maximumDepth else { throw .malformed }
            scanner.skip(1)
            scanner.skipWhitespace(bytes)
            if scanner.peek(bytes) == close { return scanner.skip(1) }
            while true {
                scanner.skipWhitespace(bytes)
                try element(&self)
                scanner.skipWhitespace(bytes)
                let next = scanner.peek(bytes)
                guard next == UInt8(ascii: ",") || next == close else { throw .malformed }
                scanner.skip(1)
                if next == close { return }
            }
        }

        /// Whether the key read last has escapes.
        private var isKeyEscaped = false

        private func text(
            _ range: Range<Int>, isEscaped: Bool, _ bytes: Span<UInt8>
        ) throws(Failure) -> String {
            let plain = isEscaped ? bytes.unescaped(range) : range.map { bytes[$0] }
            guard let text = String(validating: plain, as: UTF8.self) else { throw .loneSurrogate }
            return text
        }
    }
}
