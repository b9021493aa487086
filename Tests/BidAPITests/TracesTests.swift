import AuctionEvents
import Logging
import Testing

@testable import BidAPI

@Suite struct TracesTests {
    private static let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    private let traces = Traces(path: nil, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })

    @Test("a bid is traced when its caller records the trace")
    func sampled() throws {
        let bid = try #require(traces.begin(Self.example, at: 1))
        #expect(bid.context.traceIDText == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(bid.parentID == 0x00F0_67AA_0BA9_02B7 && bid.context.spanID != bid.parentID)
        #expect(traces.begin(nil, at: 1) == nil && traces.begin("nonsense", at: 1) == nil)
        #expect(
            traces.begin(String(Self.example.dropLast()) + "0", at: 1) == nil, "the caller does not record it"
        )
    }

    @Test("callers cannot have more bids traced than the bound")
    func bound() {
        let count = (0..<1_000).count { _ in traces.begin(Self.example, at: 5_000_000) != nil }
        #expect(count == Limits.tracesPerSecond)
        #expect(traces.begin(Self.example, at: 6_000_000) != nil, "the next second")
    }
}
