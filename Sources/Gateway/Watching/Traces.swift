// Reports the walk of each traced event: a log line, an exemplar of the event age, and a span.

import AuctionEvents
import Fanout
import LiveProtocol
import Logging
import Reactor
import Telemetry

/// A traced event whose walk has ended.
struct TracedEvent {
    let event: EncodedEvent
    let topic: Topic
    /// Watchers on this loop.
    let watchers: Int
}

extension Watching {
    /// - Parameter now: monotonic microseconds.
    func tell(of traced: TracedEvent, now: Int64) {
        // Publishers decide which events are traced, so the gateway needs a bound of its own.
        let (event, rate) = (traced.event, Limits.tracesPerSecond)
        guard traceBucket.take(rate: rate, burst: rate, now: context.nowMilliseconds),
            case .success(let envelope) = EventEnvelope.scan(Array(event.json).span, auctionID: nil),
            let parent = envelope.trace
        else { return }
        let own = parent.child()
        let wall = Clock.wallMicroseconds()
        let age = max(0, wall - event.publishedAt * 1_000)
        // An event that came from the log was not received from pub/sub.
        let walk = event.receivedAt > 0 ? max(0, now - event.receivedAt) : 0
        context.logger.info(
            "delivered a traced event",
            metadata: [
                "trace_id": "\(own.traceIDText)", "span_id": "\(own.spanIDText)", "topic": "\(traced.topic)",
                "seq": "\(event.sequence)", "watchers": "\(traced.watchers)",
                "age_ms": "\(event.publishedAt > 0 ? "\(age / 1_000)" : "?")",
                "walk_us": event.receivedAt > 0 ? "\(walk)" : "?",
            ])
        if event.publishedAt > 0 {
            context.shared.eventAgeExemplars.add(
                Exemplar(value: Double(age) / 1e6, traceID: own.traceIDText, time: Double(wall) / 1e6))
        }
        context.shared.spans?.write(
            TraceSpan(
                own, parentID: parent.spanID, "deliver", .consumer, from: wall - walk, to: wall,
                [
                    ("gavelcast.topic", .text("\(traced.topic)")),
                    ("gavelcast.seq", .number(Int(event.sequence))),
                    ("gavelcast.watchers", .number(traced.watchers)),
                    ("gavelcast.loop", .number(context.handle.index)),
                ]))
    }
}
