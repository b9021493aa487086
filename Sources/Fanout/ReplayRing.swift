// The last events of one auction, kept by the gateway so that a watcher or a loop that missed some is served
// without a read. Contiguous by construction: a jump in the sequence empties it first.

import DequeModule
package import LiveProtocol

package struct ReplayRing {
    private var events: Deque<EncodedEvent> = []
    private let capacity: Int
    /// More than ``capacity`` while the ring is widened.
    private var limit: Int
    /// Bytes of the frames held.
    package private(set) var bytes = 0

    /// - Parameter capacity: the most events kept, at least 1.
    package init(capacity: Int) {
        self.capacity = max(1, capacity)
        limit = self.capacity
    }

    package var count: Int { events.count }
    package var first: UInt64? { events.first?.sequence }
    package var last: UInt64? { events.last?.sequence }

    /// Adds the next event; the oldest leaves when the ring is full. Events without sequence number are not
    /// kept.
    package mutating func append(_ event: EncodedEvent) {
        guard event.sequence != 0 else { return }
        if let last, event.sequence != last + 1 { removeAll() }
        if events.count == limit { dropOldest() }
        events.append(event)
        bytes += event.frame.count
    }

    /// The events after `cursor`, oldest first; `nil` when the ring does not reach back so far.
    package func events(after cursor: UInt64) -> [EncodedEvent]? {
        guard let first, let last else { return nil }
        guard cursor + 1 >= first else { return nil }
        guard cursor < last else { return [] }
        return Array(events[(events.count - Int(last - cursor))...])
    }

    /// Puts events before the first one, and keeps as many from now on, until ``narrow()``. `older` must lead
    /// up to the first event. When the ring is empty, it must lead up to the event that is appended next.
    package mutating func widen(with older: [EncodedEvent]) {
        if let first, let joint = older.last?.sequence {
            precondition(joint + 1 == first, "a gap before the ring")
        }
        for event in older.reversed() {
            events.prepend(event)
            bytes += event.frame.count
        }
        limit = max(limit, events.count)
    }

    /// Goes back to the ring's own capacity.
    package mutating func narrow() {
        limit = capacity
        while events.count > limit { dropOldest() }
    }

    package mutating func dropOldest() {
        guard let event = events.popFirst() else { return }
        bytes -= event.frame.count
    }

    package mutating func removeAll() {
        events = []
        bytes = 0
    }
}
