// One event in its wire forms. It is made once, when the event enters the gateway. The replay ring, every
// loop's mailbox and every backlog share it by reference. It is immutable, so that it may cross threads.
// Forms other than the frame are made once, on first use. The gateway's own messages to a watcher travel in
// the same form.

import Synchronization

package final class EncodedEvent: Sendable {
    /// How an event is treated while a watcher's socket is full.
    package enum Treatment: UInt8, Sendable {
        /// Unsent ones merge into the newest (a `BID_UPDATE` with a sequence number).
        case conflatable
        /// Left out (`VIEWERS`).
        case droppable
        /// An unsent one gives way to a newer one (`FEED`).
        case replaceable
        /// Kept, and bounded by bytes.
        case lossless
        /// Kept: what the gateway itself says to this watcher (a snapshot, an answer).
        case message
    }

    private final class Form: Sendable {
        let bytes: [UInt8]
        init(_ bytes: [UInt8]) { self.bytes = bytes }
    }

    /// 0 for an event without cursor.
    package let sequence: UInt64
    /// The cursor of a client that has applied it, as server-sent events carry it; `nil` when it moves no
    /// cursor.
    package let cursor: UInt64?
    package let treatment: Treatment
    /// True when nothing follows it in its auction (`AUCTION_ENDED`).
    package let endsAuction: Bool
    /// True when its bid is traced. The JSON names the trace.
    package let isTraced: Bool
    /// The whole WebSocket frame: header, then the JSON.
    package let frame: [UInt8]
    /// Where in ``frame`` the JSON begins.
    package let jsonStart: Int
    /// The event's type, as written in the JSON between its quotes.
    package let type: String
    /// When the gateway received it from pub/sub, in microseconds of the monotonic clock; 0 for another
    /// event.
    package let receivedAt: Int64
    /// When it was published, in milliseconds since 1970; 0 when that is not known.
    package let publishedAt: Int64
    private let lazyStream = AtomicLazyReference<Form>()
    private let lazyDeflated = AtomicLazyReference<Form>()

    package init(
        sequence: UInt64, cursor: UInt64?, treatment: Treatment, endsAuction: Bool = false, type: String,
        frame: [UInt8], jsonStart: Int, receivedAt: Int64 = 0, publishedAt: Int64 = 0, isTraced: Bool = false
    ) {
        self.sequence = sequence
        self.cursor = cursor
        self.treatment = treatment
        self.endsAuction = endsAuction
        self.type = type
        self.frame = frame
        self.jsonStart = jsonStart
        self.receivedAt = receivedAt
        self.publishedAt = publishedAt
        self.isTraced = isTraced
    }

    package var isConflatable: Bool { treatment == .conflatable }
    /// False for `VIEWERS` and `FEED`, which long-polls do not carry. Their answers say `live`.
    package var isForPolls: Bool { treatment != .droppable && treatment != .replaceable }
    /// True for a snapshot that all watchers of its channel get in the place of skipped events.
    package var isJump: Bool { treatment == .message && sequence != 0 }

    /// The event's JSON as published.
    package var json: ArraySlice<UInt8> { frame[jsonStart...] }

    /// The form for server-sent events, which `make` builds on first use. When two threads build it at once,
    /// one result stays.
    package func stream(_ make: (EncodedEvent) -> [UInt8]) -> [UInt8] {
        lazyStream.load()?.bytes ?? lazyStream.storeIfNil(Form(make(self))).bytes
    }

    /// The frame for clients that take compressed messages, made and kept as ``stream(_:)`` is.
    package func deflated(_ make: (EncodedEvent) -> [UInt8]) -> [UInt8] {
        lazyDeflated.load()?.bytes ?? lazyDeflated.storeIfNil(Form(make(self))).bytes
    }
}
