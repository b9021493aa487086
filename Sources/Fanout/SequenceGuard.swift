// Puts one auction's events in order. Pub/sub repeats, reorders and loses events. The guard lets each
// sequence number pass once, in order. It holds events behind a gap until the log fills the gap or the gap is
// given up.

package struct SequenceGuard<Event> {
    package enum Verdict: Equatable {
        /// It is the next one: deliver it, then ask ``takeNextHeld()``.
        case deliver
        /// It, or something after it, was delivered already: drop it.
        case duplicate
        /// It is kept because something before it is missing.
        case held
        /// The limit of held events is reached, and this event is not kept: give the gap up.
        case overflow
    }

    /// The sequence number delivered last; `nil` until the state has been read.
    package private(set) var last: UInt64?
    private var heldEvents: [UInt64: Event] = [:]
    private let limit: Int

    /// - Parameter limit: the most events held.
    package init(limit: Int) {
        self.limit = limit
    }

    package var heldCount: Int { heldEvents.count }
    /// True while events are held behind a gap.
    package var hasHole: Bool { last != nil && !heldEvents.isEmpty }
    package var firstHeld: UInt64? { heldEvents.keys.min() }

    package mutating func offer(_ event: Event, sequence: UInt64) -> Verdict {
        if let last {
            if sequence <= last { return .duplicate }
            if sequence == last + 1 {
                self.last = sequence
                return .deliver
            }
        }
        guard heldEvents[sequence] == nil else { return .duplicate }
        guard heldEvents.count < limit else { return .overflow }
        heldEvents[sequence] = event
        return .held
    }

    /// The next held event that now fits, if any; call until `nil`.
    package mutating func takeNextHeld() -> Event? {
        guard let last, let event = heldEvents.removeValue(forKey: last + 1) else { return nil }
        self.last = last + 1
        return event
    }

    /// Moves the position to `sequence` (from a state or snapshot, never backwards); held events up to it are
    /// dropped.
    package mutating func establish(_ sequence: UInt64) {
        last = max(last ?? 0, sequence)
        heldEvents = heldEvents.filter { $0.key > (last ?? 0) }
    }
}
