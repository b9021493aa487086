// What one connection's socket has not taken yet. A backlog exists only while a socket is full. Consecutive
// bids of one auction merge into the newest one here. So a slow watcher costs bounded memory and is shown the
// newest price next. Lossless events stay in order and are bounded by bytes. The backlog keeps events in
// their shared form, and they get their wire form when their turn comes.

import DequeModule
package import LiveProtocol

package struct Backlog {
    /// One thing to send.
    private enum Entry {
        /// An event, standing for those from `first` to itself, of one of the connection's watches.
        case event(EncodedEvent, first: UInt64, watch: UInt32)
        /// Bytes that are no event (an HTTP answer, a frame made already).
        case bytes([UInt8])
    }

    /// Makes the wire form of an event that stands for those from `first` to itself.
    package typealias Encode = (_ event: EncodedEvent, _ first: UInt64, _ watch: UInt32) -> [UInt8]

    /// How much may wait in one connection's queue, in bytes.
    package struct Bounds: Sendable {
        package let lossless: Int
        package let messages: Int
        package let control: Int

        package init(lossless: Int, messages: Int, control: Int) {
            self.lossless = lossless
            self.messages = messages
            self.control = control
        }
    }

    /// The frame that is partly written; nothing else may be sent before its rest.
    private var current: [UInt8]
    private var offset: Int
    /// Control frames, which go out between messages before anything queued.
    private var control: [UInt8] = []
    private var queue: Deque<Entry> = []
    /// Entries that have left the queue; entries are numbered from the first one ever queued.
    private var departed = 0
    /// The number of each watch's newest entry, on a connection with several watches.
    private var newest: [UInt32: Int]?
    /// Bytes of lossless events in the queue.
    package private(set) var losslessBytes = 0
    /// Bytes of messages in the queue.
    package private(set) var messageBytes = 0

    /// - Parameters:
    ///   - frame: a frame of which the socket took `sent` bytes.
    ///   - hasManyWatches: true when events of several auctions come here. Each merges only with its own
    ///     auction's.
    package init(frame: [UInt8] = [], sent: Int = 0, hasManyWatches: Bool = false) {
        current = frame
        offset = sent
        newest = hasManyWatches ? [:] : nil
    }

    /// Keeps the events of several watches apart from now on. Events of one watch may wait already.
    package mutating func separateWatches() {
        if newest == nil { newest = [:] }
    }

    package var isEmpty: Bool { offset == current.count && control.isEmpty && queue.isEmpty }
    /// Bytes that wait, without bids, which may still merge.
    package var waitingBytes: Int { current.count - offset + control.count + losslessBytes + messageBytes }
    /// Queued entries, without the frame that is being written.
    package var count: Int { queue.count }

    /// Queues an event, or merges it with its watch's last entry where the contract allows. Returns false
    /// when more waits than `bounds` allow: the watcher is too slow to be kept.
    /// - Parameters:
    ///   - first: the first event it stands for; its own sequence number when it was not merged before.
    ///   - watch: which of the connection's watches it belongs to.
    package mutating func enqueue(
        _ event: EncodedEvent, first: UInt64, watch: UInt32 = 0, bounds: Bounds
    ) -> Bool {
        switch event.treatment {
        case .droppable: return true
        case .conflatable:
            if let index = lastEntry(of: watch), case .event(let last, let earlier, _) = queue[index],
                last.isConflatable
            {
                queue[index] = .event(event, first: earlier, watch: watch)
                return true
            }
        case .replaceable: dropReplaceable(of: watch)
        case .lossless: losslessBytes += event.frame.count
        case .message: messageBytes += event.frame.count
        }
        queue.append(.event(event, first: first, watch: watch))
        newest?[watch] = departed + queue.count - 1
        return losslessBytes <= bounds.lossless && messageBytes <= bounds.messages
    }

    /// Queues bytes behind what waits. Returns false as ``enqueue(_:first:watch:bounds:)`` does.
    package mutating func enqueue(bytes: [UInt8], bounds: Bounds) -> Bool {
        queue.append(.bytes(bytes))
        messageBytes += bytes.count
        return messageBytes <= bounds.messages
    }

    /// Puts a control frame before everything queued. Returns false when control frames exceed their bound,
    /// because the peer sends pings and reads nothing.
    package mutating func enqueue(control frame: [UInt8], bounds: Bounds) -> Bool {
        control.append(contentsOf: frame)
        return control.count <= bounds.control
    }

    /// Keeps later events from merging with the queued events of `watch`, because another watch may get its
    /// number.
    package mutating func forget(watch: UInt32) {
        newest?.removeValue(forKey: watch)
    }

    /// Drops everything queued except control frames, so that these are the last thing sent before a close.
    package mutating func dropQueued() {
        departed += queue.count
        queue = []
        losslessBytes = 0
        messageBytes = 0
    }

    /// Drops a watch's unsent replaceable event. Its empty entry stays so that the others keep their numbers.
    private mutating func dropReplaceable(of watch: UInt32) {
        let index = queue.lastIndex {
            guard case .event(let event, _, let other) = $0 else { return false }
            return other == watch && event.treatment == .replaceable
        }
        if let index { queue[index] = .bytes([]) }
    }

    private func lastEntry(of watch: UInt32) -> Int? {
        guard let newest else { return queue.isEmpty ? nil : queue.count - 1 }
        guard let number = newest[watch], number >= departed else { return nil }
        return number - departed
    }

    // SAFETY: the pointer given to `send` points into `current` and is valid for that call.
    /// Calls `send` with bytes to write until it takes fewer than offered or nothing is left. Returns the
    /// bytes written.
    package mutating func flush(encode: Encode, send: (UnsafeRawBufferPointer) -> Int) -> Int {
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
    private mutating func advance(encode: Encode) -> Bool {
        guard offset == current.count else { return true }
        offset = 0
        current = []
        if !control.isEmpty {
            swap(&current, &control)
            return true
        }
        while current.isEmpty, let entry = queue.popFirst() {
            departed += 1
            take(entry, encode: encode)
        }
        return !current.isEmpty
    }

    private mutating func take(_ entry: Entry, encode: Encode) {
        switch entry {
        case .event(let event, let first, let watch):
            switch event.treatment {
            case .lossless: losslessBytes -= event.frame.count
            case .message: messageBytes -= event.frame.count
            case .conflatable, .droppable, .replaceable: break
            }
            current = encode(event, first, watch)
        case .bytes(let bytes):
            messageBytes -= bytes.count
            current = bytes
        }
    }
}
