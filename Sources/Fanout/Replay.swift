// A stretch of an auction's events for one client that missed them. A small stretch stays as it is. In a
// larger one, consecutive bids merge, and it is cut off where it is too much for one answer.

package import LiveProtocol

package struct Replay {
    /// The events, each standing for those from `first` to itself.
    package private(set) var entries: [(event: EncodedEvent, first: UInt64)] = []

    /// - Parameters:
    ///   - events: in order and without a gap.
    ///   - maximumBytes: at most so many bytes in all. One event is always taken.
    package init(_ events: [EncodedEvent], maximumBytes: Int) {
        let isSmall = events.reduce(0) { $0 + $1.frame.count } <= maximumBytes
        var bytes = 0
        for event in events {
            if !isSmall, let last = entries.last, last.event.isConflatable, event.isConflatable {
                bytes += event.frame.count - last.event.frame.count
                entries[entries.count - 1] = (event, last.first)
                continue
            }
            guard entries.isEmpty || bytes + event.frame.count <= maximumBytes else { return }
            entries.append((event, event.sequence))
            bytes += event.frame.count
        }
    }
}
