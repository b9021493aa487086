// Makes a script smaller for the wire, in ways that cannot change what it does. Whole-line comments,
// indentation, line ends that separate nothing, and spaces around some operators go. Private names (`#name`),
// which nothing outside a class can see, become short. Our own scripts are written for this: no template
// literal spans lines, no text has a `#` before a letter or an operator between spaces, and no line of code
// begins with `*`.

enum ScriptCompaction {
    static func compact(_ script: [UInt8]) -> [UInt8] {
        let lines = script.split(separator: UInt8(ascii: "\n")).map(trimmed).filter {
            !$0.isEmpty && !isComment($0)
        }
        let script = String(decoding: joined(shortened(lines.map(Array.init))), as: UTF8.self)
        let tight = operators.reduce(script) { $0.replacing(" \($1) ", with: $1) }
        return Array(tight.replacing(") {", with: "){").utf8)
    }

    /// Operators that need no spaces around them. Without `+` and `-`, which can form another operator.
    private static let operators = [
        "=>", "===", "!==", "??", "&&", "||", "+=", "-=", "=", "<", ">", "<=", ">=",
    ]

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        line.drop { $0 == UInt8(ascii: " ") }
    }

    private static func isComment(_ line: ArraySlice<UInt8>) -> Bool {
        line.starts(with: "//".utf8) || line.starts(with: "/*".utf8) || line.first == UInt8(ascii: "*")
    }

    /// Joins lines. After one of these characters a line end separates nothing.
    private static func joined(_ lines: [[UInt8]]) -> [UInt8] {
        lines.reduce(into: []) { script, line in
            script += line
            if let last = line.last, !";{},([".utf8.contains(last) { script.append(UInt8(ascii: "\n")) }
        }
    }

    // MARK: Private names

    private static func isNamePart(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }

    /// Where the private name behind the `#` at `index` ends; `index + 1` if there is none.
    private static func endOfName(_ line: [UInt8], behind index: Int) -> Int {
        line[(index + 1)...].firstIndex { !isNamePart($0) } ?? line.count
    }

    private static func shortened(_ lines: [[UInt8]]) -> [[UInt8]] {
        var counts: [String: Int] = [:]
        forEachName(in: lines) { counts[$0, default: 0] += 1 }
        let order = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        let short = Dictionary(uniqueKeysWithValues: order.enumerated().map { ($1.key, name($0)) })
        return lines.map { line in
            var result: [UInt8] = []
            var index = 0
            while index < line.count {
                result.append(line[index])
                let end = line[index] == UInt8(ascii: "#") ? endOfName(line, behind: index) : index
                guard end > index + 1 else {
                    index += 1
                    continue
                }
                let name = String(decoding: line[(index + 1)..<end], as: UTF8.self)
                result += Array((short[name] ?? name).utf8)
                index = end
            }
            return result
        }
    }

    private static func forEachName(in lines: [[UInt8]], _ body: (String) -> Void) {
        for line in lines {
            for index in line.indices where line[index] == UInt8(ascii: "#") {
                let end = endOfName(line, behind: index)
                if end > index + 1 { body(String(decoding: line[(index + 1)..<end], as: UTF8.self)) }
            }
        }
    }

    /// a, b, … z, aa, ab, …
    private static func name(_ index: Int) -> String {
        let letter = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(index % 26)))
        return index < 26 ? letter : name(index / 26 - 1) + letter
    }
}
