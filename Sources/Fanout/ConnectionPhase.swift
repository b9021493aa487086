// What a connection is doing, and what it may do next. A phase is written in one place only, the slab's
// `transition`, which traps on a move that is not named here.

package enum ConnectionPhase: UInt8, Sendable {
    /// The slot is unused.
    case free
    /// Waiting for (the rest of) a PROXY protocol header.
    case introducing
    /// The TLS handshake is under way.
    case securing
    /// Waiting for (the rest of) a request head.
    case readingHead
    /// A request's body is being read (echo path).
    case readingBody
    /// A live request was accepted and nothing is watched yet: the answer to the WebSocket handshake is made,
    /// or the stream or long-poll is open.
    case opening
    /// A watcher that has not had its first message.
    case joining
    /// A watcher that receives events.
    case watching
    /// A connection whose subscriptions are watchers, or a long-poll over them (`/v1/live`).
    case multiplexing
    /// A WebSocket that gets its messages back (conformance suites).
    case echoing
    /// Our last words are on their way; a WebSocket also waits for the peer's close frame.
    case closing
    /// Everything was said and our side is shut down. Input is discarded until the peer closes.
    case lingering

    /// The phases that may follow this one. Any phase but ``free`` may also be freed.
    package var successors: Set<ConnectionPhase> {
        switch self {
        // A slot in use begins as one of these.
        case .free: [.introducing, .securing, .readingHead, .joining]
        case .introducing: [.securing, .readingHead]
        // A plain request on the TLS port is answered and lingers.
        case .securing: [.readingHead, .lingering]
        case .readingHead: [.readingBody, .opening, .lingering]
        case .readingBody: [.readingHead, .lingering]
        // A watch that is refused now is told so in the words of its transport.
        case .opening: [.joining, .multiplexing, .echoing, .closing, .readingHead]
        // An answered long-poll is free for the next request.
        case .joining: [.watching, .readingHead, .closing]
        case .watching, .multiplexing: [.readingHead, .closing]
        case .echoing: [.closing]
        case .closing: [.lingering]
        case .lingering: []
        }
    }

    /// True when `next` may follow. The same table as ``successors``, as a bit mask: transitions are on the
    /// path of every join.
    package func mayBecome(_ next: ConnectionPhase) -> Bool {
        Self.masks[Int(rawValue)] & (1 << UInt16(next.rawValue)) != 0
    }

    private static let masks: [UInt16] = (free.rawValue...lingering.rawValue).map { value in
        ConnectionPhase(rawValue: value)?.successors.reduce(0) { $0 | 1 << UInt16($1.rawValue) } ?? 0
    }
}
