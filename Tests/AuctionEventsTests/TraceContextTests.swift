import AuctionEvents
import Testing

/// Vectors from W3C Trace Context, level 1, sections 3.2 and 4.
@Suite struct TraceContextTests {
    private static let standard = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    @Test("the standard's example is read and written unchanged")
    func example() throws {
        let context = try #require(TraceContext(Self.standard))
        #expect(context.text == Self.standard)
        #expect(context.traceIDText == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(context.spanIDText == "00f067aa0ba902b7" && context.isSampled)
        let zeros = "00-0000000000000000000000000000000a-0000000000000001-00"
        #expect(TraceContext(zeros)?.text == zeros && TraceContext(zeros)?.isSampled == false)
    }

    @Test("a child has the trace, and a span of its own")
    func child() throws {
        let parent = try #require(TraceContext(Self.standard))
        let child = parent.child()
        #expect(child.traceIDText == parent.traceIDText && child.isSampled)
        #expect(child.spanID != parent.spanID && child.spanID != parent.child().spanID)
    }

    @Test("later versions may add to the end")
    func laterVersions() {
        #expect(TraceContext("01" + Self.standard.dropFirst(2)) != nil)
        #expect(TraceContext("cc" + Self.standard.dropFirst(2) + "-what-the-future-brings") != nil)
        #expect(TraceContext("cc" + Self.standard.dropFirst(2) + ".what-the-future-brings") == nil)
    }

    @Test(
        "anything else is ignored",
        arguments: [
            "", "00", String(standard.dropLast()), standard + "-00", standard.uppercased(),
            "ff" + standard.dropFirst(2), "0g" + standard.dropFirst(2),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            standard.replacing("-", with: "_"), " " + standard.dropLast(),
        ])
    func invalid(text: String) {
        #expect(TraceContext(text) == nil)
    }
}
