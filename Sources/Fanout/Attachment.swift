// What the feed gives a loop that has watchers of a topic, and what the loop makes of it for each of them.

package import LiveProtocol

/// Where a topic stands, and the way there.
package struct Attachment: Sendable {
    package let topic: Topic
    /// The feed's number of the topic, by which events name it.
    package let number: UInt32
    package let snapshot: Snapshot
    /// The last events, contiguous up to ``last``; preceded by Redis' log where that was read.
    package let events: [EncodedEvent]
    /// The sequence number of the last event delivered in this topic.
    package let last: UInt64
    /// True when the state and the log were read for this attachment. Events that are not in ``events`` are
    /// then not available.
    package let isThorough: Bool
    /// False when watchers are to be told that the auction's Redis does not deliver.
    package let isLive: Bool

    package init(
        topic: Topic, number: UInt32, snapshot: Snapshot, events: [EncodedEvent], last: UInt64,
        isThorough: Bool, isLive: Bool
    ) {
        self.topic = topic
        self.number = number
        self.snapshot = snapshot
        self.events = events
        self.last = last
        self.isThorough = isThorough
        self.isLive = isLive
    }

    package var extent: ReplayExtent {
        ReplayExtent(
            last: last, snapshot: snapshot.sequence, firstEvent: events.first?.sequence,
            isThorough: isThorough)
    }

    /// True when nothing follows what is here.
    package var isEnded: Bool { snapshot.isEnded || events.last?.endsAuction == true }

    /// What a watcher is told first.
    /// - Parameters:
    ///   - cursor: the sequence number of the last event that the client applied; `nil` when it gave none.
    ///   - isMoved: true when another process served it until now. That process may have been a moment ahead.
    package func welcome(cursor: UInt64?, isMoved: Bool = false) -> Welcome {
        if isMoved, let cursor, cursor > last { return .resumed(since: cursor, to: cursor, then: []) }
        return switch Resumption(cursor: cursor, on: extent) {
        case .later(let needsLog): .later(needsLog ? [.state, .log] : .state)
        case .snapshot(let complete):
            .snapshot(complete: complete, position: snapshot.sequence, then: events(after: snapshot.sequence))
        case .resumed:
            .resumed(since: cursor ?? 0, to: max(last, cursor ?? 0), then: events(after: cursor ?? 0))
        }
    }

    private func events(after position: UInt64) -> [EncodedEvent] {
        events.filter { $0.sequence > position }
    }
}

/// A watcher's first message and what follows it.
package enum Welcome {
    /// There is no first message yet. The loop must ask the feed for this.
    case later(AttachmentNeeds)
    /// The snapshot, which stands at `position`, and the events behind it.
    case snapshot(complete: Bool, position: UInt64, then: [EncodedEvent])
    /// The events behind the cursor.
    case resumed(since: UInt64, to: UInt64, then: [EncodedEvent])
}

/// What a loop needs besides the last events to serve its waiting watchers.
package struct AttachmentNeeds: OptionSet, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// A state that the events lead on from: for joiners without a cursor.
    package static let state = AttachmentNeeds(rawValue: 1)
    /// Redis' log and a fresh state: for cursors that the events do not reach.
    package static let log = AttachmentNeeds(rawValue: 2)
}

/// A set of a gateway's event loops.
package struct LoopSet: OptionSet, Hashable, Sendable {
    /// The most loops of a gateway.
    package static let capacity = 64

    package let rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The set of one loop, by its index.
    package init(loop: Int) {
        precondition((0..<Self.capacity).contains(loop))
        rawValue = 1 << UInt64(loop)
    }

    package func forEach(_ body: (Int) -> Void) {
        var rest = rawValue
        while rest != 0 {
            body(rest.trailingZeroBitCount)
            rest &= rest - 1
        }
    }
}
