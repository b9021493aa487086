// Which trace a bid belongs to, as callers and other services tell each other (W3C Trace Context, level 1). A
// sampled bid's events carry it in their member `traceparent`.

/// A place in a trace: the trace, and the span that is the parent of what follows.
package struct TraceContext: Equatable, Sendable {
    /// The halves of the trace's id, which is not zero.
    private let high: UInt64
    private let low: UInt64
    /// Not zero.
    package let spanID: UInt64
    /// True when the caller records the trace.
    package let isSampled: Bool

    private init(high: UInt64, low: UInt64, spanID: UInt64, isSampled: Bool) {
        self.high = high
        self.low = low
        self.spanID = spanID
        self.isSampled = isSampled
    }

    /// Reads the field `traceparent`: `00-` trace `-` span `-` flags, in lower-case hexadecimal. `nil` for
    /// anything else, which the standard wants ignored. Later versions may add to the end.
    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard bytes.count >= 55, let version = Self.number(bytes[0..<2]), version != 0xFF,
            bytes.count == 55 || version > 0 && bytes[55] == UInt8(ascii: "-"),
            [2, 35, 52].allSatisfy({ bytes[$0] == UInt8(ascii: "-") }),
            let high = Self.number(bytes[3..<19]), let low = Self.number(bytes[19..<35]),
            let span = Self.number(bytes[36..<52]), let flags = Self.number(bytes[53..<55]),
            high | low != 0, span != 0
        else { return nil }
        self.init(high: high, low: low, spanID: span, isSampled: flags & 1 == 1)
    }

    /// A new span of the same trace.
    package func child() -> TraceContext {
        TraceContext(high: high, low: low, spanID: .random(in: 1...UInt64.max), isSampled: isSampled)
    }

    package var traceIDText: String { Self.text(high) + Self.text(low) }
    package var spanIDText: String { Self.text(spanID) }
    /// As ``init(_:)`` reads it.
    package var text: String { "00-\(traceIDText)-\(spanIDText)-\(isSampled ? "01" : "00")" }

    /// A span's id in 16 digits.
    package static func text(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): number = number << 4 | UInt64(digit - 48)
            case UInt8(ascii: "a")...UInt8(ascii: "f"): number = number << 4 | UInt64(digit - 87)
            default: return nil
            }
        }
        return number
    }
}
