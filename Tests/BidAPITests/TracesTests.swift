import AuctionEvents
import Logging
import Testing

@testable import BidAPI

@Suite struct TracesTests {
    private static let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    private let traces = Traces(path: nil, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })

    @Test("a bid is traced when its caller records the trace")
    func sampled() throws {
        let bid = try #require(traces.begin(Self.example))
        #expect(bid.context.traceIDText == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(bid.parentID == 0x00F0_67AA_0BA9_02B7 && bid.context.spanID != bid.parentID)
        #expect(traces.begin(nil) == nil && traces.begin("nonsense") == nil)
        #expect(traces.begin(String(Self.example.dropLast()) + "0") == nil, "the caller does not record it")
    }

    @Test("callers cannot have more bids traced than the bound")
    func bound() {
        // The calls fall into one second, or into two.
        let count = (0..<1_000).count { _ in traces.begin(Self.example) != nil }
        #expect((Limits.tracesPerSecond...2 * Limits.tracesPerSecond).contains(count), "\(count)")
    }
}
