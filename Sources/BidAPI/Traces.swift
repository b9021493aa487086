// Decides which bids are traced, and writes their spans. A bid is traced if its request carries a sampled
// `traceparent` (W3C Trace Context). Its events then carry the trace to the gateways.

import AuctionEvents
import HTTPTypes
import Logging
import Reactor
import Settings
import Synchronization
import Telemetry

/// A bid that is traced: its own span, under the caller's.
struct TracedBid: Sendable {
    let context: TraceContext
    let parentID: UInt64
    /// In microseconds since 1970.
    let start: Int64
}

final class Traces: Sendable {
    /// Traced values of `gavelcast_bid_seconds`.
    let exemplars = Exemplars()
    private let file: SpanFile?
    private let logger: Logger
    /// The present second, and how many bids were traced in it.
    private let present = Mutex((second: Int64(0), count: 0))

    /// - Parameter path: of the file for spans; `nil` when they are not written.
    init(path: String?, logger: Logger) {
        file = path.map {
            SpanFile(path: $0, service: "gavelcast-bidapi", version: ProgramEntry.version)
        }
        if let fault = path.flatMap(SpanFile.fault) {
            logger.warning("spans are dropped", metadata: ["trace-file": "\(fault)"])
        }
        self.logger = logger
    }

    /// True when spans are written.
    var writesSpans: Bool { file != nil }
    /// Spans that could not be written.
    var dropped: Int { file?.dropped ?? 0 }

    /// Begins the span of a bid; `nil` when the bid is not traced. Callers decide which bids are traced,
    /// so the rate has a limit.
    /// - Parameter start: when the bid arrived, in microseconds since 1970.
    func begin(_ header: String?, at start: Int64) -> TracedBid? {
        guard let parent = header.flatMap({ TraceContext($0) }), parent.isSampled else { return nil }
        let second = start / 1_000_000
        let isWithinBound = present.withLock { present in
            if present.second != second { present = (second, 0) }
            present.count += 1
            return present.count <= Limits.tracesPerSecond
        }
        guard isWithinBound else { return nil }
        return TracedBid(context: parent.child(), parentID: parent.spanID, start: start)
    }

    /// The bid was answered.
    /// - Parameter route: the path, with placeholders.
    func end(_ bid: TracedBid, route: String, auctionID: AuctionID, status: Int) {
        let end = Clock.wallMicroseconds()
        let seconds = Double(max(0, end - bid.start)) / 1e6
        exemplars.add(
            Exemplar(value: seconds, traceID: bid.context.traceIDText, time: Double(end) / 1e6))
        logger.info(
            "decided a traced bid",
            metadata: [
                "trace_id": "\(bid.context.traceIDText)", "span_id": "\(bid.context.spanIDText)",
                "auction": "\(auctionID.text)", "status": "\(status)", "ms": "\(seconds * 1_000)",
            ])
        file?.write(
            TraceSpan(
                bid.context, parentID: bid.parentID, "POST \(route)", .server, from: bid.start, to: end,
                [
                    ("http.request.method", .text("POST")), ("http.route", .text(route)),
                    ("http.response.status_code", .number(status)),
                    ("gavelcast.auction", .text(auctionID.text)),
                ], hasFailed: status >= 500))
    }

    /// A step in the life of a traced bid has ended now.
    /// - Parameter start: in microseconds since 1970.
    func step(
        _ name: String, _ kind: TraceSpan.Kind = .internal, of context: TraceContext, from start: Int64,
        _ attributes: [(key: String, value: TraceSpan.Attribute)] = []
    ) {
        file?.write(
            TraceSpan(
                context.child(), parentID: context.spanID, name, kind, from: start,
                to: Clock.wallMicroseconds(), attributes))
    }

    /// Waits until all spans are written.
    func flush() { file?.flush() }
}

extension HTTPField.Name {
    static let traceParent = HTTPField.Name("traceparent")!
}
