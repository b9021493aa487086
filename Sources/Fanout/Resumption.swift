// Decides a watcher's first message. The events that a loop has may lead from the watcher's cursor to now, or
// only a snapshot does, or more must be read first. Pure: the loop gathers the facts and acts on the answer.

/// What a loop has of an auction at one moment.
package struct ReplayExtent: Equatable, Sendable {
    /// The sequence number of the last event delivered; 0 before the first.
    package let last: UInt64
    /// The sequence number of the state at hand.
    package let snapshot: UInt64
    /// The first of the events at hand, which run without a gap up to ``last``; `nil` when there are none.
    package let firstEvent: UInt64?
    /// True when state and log were read for this extent. Events that are not here are then not available.
    package let isThorough: Bool

    package init(last: UInt64, snapshot: UInt64, firstEvent: UInt64?, isThorough: Bool) {
        self.last = last
        self.snapshot = snapshot
        self.firstEvent = firstEvent
        self.isThorough = isThorough
    }

    /// True when the events lead from `cursor` to ``last`` without a gap.
    package func reaches(_ cursor: UInt64) -> Bool {
        guard cursor < last else { return cursor == last }
        guard let firstEvent else { return false }
        return firstEvent <= cursor + 1
    }
}

/// The decision for one watcher.
package enum Resumption: Equatable, Sendable {
    /// The state at hand, and the events behind it.
    case snapshot(complete: Bool)
    /// The events after the cursor.
    case resumed
    /// There is no first message yet. A newer state is needed, and Redis' log too when `log` is true.
    case later(log: Bool)

    /// - Parameter cursor: the sequence number of the last event the client applied; `nil` when it gave none.
    package init(cursor: UInt64?, on extent: ReplayExtent) {
        let canSnapshot = extent.snapshot >= extent.last || extent.reaches(extent.snapshot)
        guard let cursor else {
            self = canSnapshot ? .snapshot(complete: true) : .later(log: false)
            return
        }
        // A cursor beyond our last event, but not beyond the state, is ahead of pub/sub only.
        let isAheadOfEventsOnly = cursor > extent.last && cursor <= extent.snapshot
        if extent.reaches(cursor) || isAheadOfEventsOnly {
            self = .resumed
        } else {
            self = extent.isThorough && canSnapshot ? .snapshot(complete: false) : .later(log: true)
        }
    }
}
