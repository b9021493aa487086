// What one watcher's socket has not taken yet. It exists only while a socket is full, and there conflation starts:
// bids that follow one another merge into the newest, so that a slow watcher costs bounded memory and is shown the
// newest price next. Lossless events stay in order and are bounded by bytes.

import DequeModule

package struct Backlog {
    /// One thing to send: an event, standing for itself and the merged ones before it, or other bytes.
    package enum Entry {
        /// `from` is the sequence number of the first event it stands for.
        case event(EncodedEvent, from: UInt64)
        /// A complete message that never merges (a snapshot, an answer).
        case message([UInt8])
    }

    /// The frame that is partly written; nothing else may be sent before its rest.
    private var current: [UInt8]
    private var offset: Int
    /// Control frames, which go out between messages before anything queued.
    private var control: [UInt8] = []
    private var queue: Deque<Entry> = []
    /// Bytes of lossless entries in the queue.
    package private(set) var losslessBytes = 0

    /// - Parameters:
    ///   - frame: a frame of which the socket took `sent` bytes.
    package init(frame: [UInt8] = [], sent: Int = 0) {
        current = frame
        offset = sent
    }

    package var isEmpty: Bool { offset == current.count && control.isEmpty && queue.isEmpty }
    /// Queued entries, without the frame that is being written.
    package var count: Int { queue.count }

    /// Queues an event; merges it with the last entry where the contract allows. Returns false when more lossless
    /// bytes wait than `losslessLimit`: the watcher is too slow to be kept.
    /// - Parameter first: the first event it stands for, when it was merged before; its own otherwise.
    package mutating func enqueue(_ event: EncodedEvent, from first: UInt64? = nil, losslessLimit: Int)
        -> Bool
    {
        if event.isDroppable { return true }
        if event.isConflatable {
            if case .event(let last, let from)? = queue.last, last.isConflatable {
                queue[queue.count - 1] = .event(event, from: from)
            } else {
                queue.append(.event(event, from: first ?? event.sequence))
            }
            return true
        }
        queue.append(.event(event, from: event.sequence))
        losslessBytes += event.frame.count
        return losslessBytes <= losslessLimit
    }

    /// Queues a complete message behind what waits. Returns false as ``enqueue(_:losslessLimit:)`` does.
    package mutating func enqueue(message: [UInt8], losslessLimit: Int) -> Bool {
        queue.append(.message(message))
        losslessBytes += message.count
        return losslessBytes <= losslessLimit
    }

    /// Puts a control frame before all that is queued. Returns false when control frames pile up beyond
    /// `controlLimit` bytes: the peer sends pings and reads nothing.
    package mutating func enqueue(control frame: [UInt8], controlLimit: Int) -> Bool {
        control.append(contentsOf: frame)
        return control.count <= controlLimit
    }

    /// Drops every queued message, so that the control frames are the last thing sent (before a close).
    package mutating func dropQueued() {
        queue = []
        losslessBytes = 0
    }

    // SAFETY: the pointer given to `send` points into `current` and is valid for that call.
    /// Calls `send` with bytes to write until it takes fewer than offered or nothing is left. `encode` turns a
    /// conflated event into its frame. Returns the bytes written.
    package mutating func flush(
        encode: (EncodedEvent, UInt64) -> [UInt8], send: (UnsafeRawBufferPointer) -> Int
    ) -> Int {
        var total = 0
        while advance(encode: encode) {
            let rest = current.count - offset
            let sent = current.withUnsafeBytes { send(UnsafeRawBufferPointer(rebasing: $0[offset...])) }
            guard sent > 0 else { break }
            total += sent
            offset += sent
            if sent < rest { break }
        }
        return total
    }

    /// Makes the next frame current when the last one is out; false when nothing is left.
    private mutating func advance(encode: (EncodedEvent, UInt64) -> [UInt8]) -> Bool {
        guard offset == current.count else { return true }
        offset = 0
        current = []
        if !control.isEmpty {
            swap(&current, &control)
            return true
        }
        switch queue.popFirst() {
        case .event(let event, let from)?:
            if !event.isConflatable { losslessBytes -= event.frame.count }
            current = from == event.sequence ? event.frame : encode(event, from)
        case .message(let message)?:
            losslessBytes -= message.count
            current = message
        case nil: return false
        }
        return true
    }
}
