import AuctionEvents
import Foundation
import TestSupport
import Testing

@Suite struct TimestampTests {
    @Test(
        "known moments are written as RFC 3339",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_768_073_400_123, "2026-01-10T19:30:00.123Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ])
    func writes(milliseconds: Int64, text: String) {
        #expect(Timestamp(milliseconds: milliseconds).description == text)
        #expect(Timestamp(text: text)?.milliseconds == milliseconds)
        let padded = Array("\"\(text)\"".utf8)
        #expect(Timestamp(padded.span, in: 1..<25)?.milliseconds == milliseconds)
    }

    @Test("bytes that are not the form written here are no time")
    func refusesBytes() {
        for text in [
            "2026-01-10T19:30:00Z", "2026-13-10T19:30:00.123Z", "2026-01-10 19:30:00.123Z",
            "2026-01-1xT19:30:00.123Z", "2026-01-10T19:30:00.123+",
        ] {
            let bytes = Array(text.utf8)
            #expect(Timestamp(bytes.span, in: bytes.indices) == nil, "\(text)")
        }
    }

    @Test(
        "offsets and other precisions are understood",
        arguments: [
            ("2026-01-10T19:30:00Z", 1_768_073_400_000), ("2026-01-10T21:30:00+02:00", 1_768_073_400_000),
            ("2026-01-10T14:00:00.5-05:30", 1_768_073_400_500),
            ("2026-01-10t19:30:00.123456z", 1_768_073_400_123),
        ])
    func readsVariants(text: String, milliseconds: Int64) {
        #expect(Timestamp(text: text)?.milliseconds == milliseconds)
    }

    @Test(
        "what is no moment is refused",
        arguments: [
            "", "2026", "2026-01-10", "2026-01-10T19:30:00", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
            "2026-01-10T24:00:00Z", "2026-01-10T19:30:00.Z", "2026-01-10T19:30:00+2:00",
            "2026-01-10T19:30:00Zx",
            "2026-01-10 19:30:00Z",
        ])
    func refuses(text: String) {
        #expect(Timestamp(text: text) == nil)
    }

    @Test("any moment of two centuries agrees with Foundation's calendar")
    func agreesWithFoundation() {
        var generator = SeededGenerator.announced("timestamps")
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withInternetDateTime]
        for _ in 0..<2_000 {
            let seconds = Int64.random(in: -2_000_000_000...6_000_000_000, using: &generator)
            let text = formatter.string(from: Date(timeIntervalSince1970: Double(seconds)))
            #expect(Timestamp(text: text)?.milliseconds == seconds * 1_000)
            #expect(Timestamp(milliseconds: seconds * 1_000).description == text.dropLast() + ".000Z")
        }
    }
}
