// One topic on one loop: its watchers, those that still wait for their first message, and the events whose
// walk is not finished. A worker's own; made with the first watcher and gone with the last.

import Compression
import DequeModule
import Fanout

/// The watchers of a channel, by how an event reaches them. A walk goes through the lanes in this order.
enum Lane: Int {
    /// WebSockets: all are sent the same frame.
    case frames
    /// WebSockets that take compressed messages: all are sent the same compressed frame.
    case deflatedFrames
    /// Event streams: all are sent the same server-sent event.
    case streams
    /// Subscriptions and long-polls: each is handled by itself.
    case individuals

    static let count = 4

    init(_ record: ConnectionRecord) {
        switch record.transport {
        case .webSocket: self = record.takesSharedDeflate ? .deflatedFrames : .frames
        case .eventStream: self = .streams
        case .http, .longPoll, .subscription: self = .individuals
        }
    }
}

extension ConnectionRecord {
    /// Whether this client's window is as large as shared messages are compressed with.
    var takesSharedDeflate: Bool { Int(deflateBits) >= MessageDeflater.sharedWindowBits }
}

final class Channel {
    let topic: Topic
    /// The index in the worker's table, which watchers' records hold.
    let index: UInt32
    /// The hub's number; `nil` until the first attachment.
    var number: UInt32?

    /// The watchers that receive events, by ``Lane``.
    var watchers = [SubscriberList](repeating: SubscriberList(), count: Lane.count)
    /// The watchers without their first message.
    var waiting = SubscriberList()
    /// What was asked of the hub and not answered; `nil` when nothing is under way.
    var requested: AttachmentNeeds?

    /// The newest state this loop was given; `nil` until the first attachment.
    var snapshot: Snapshot?
    /// The sequence number of the last event that arrived here (its walk may not be finished).
    var last: UInt64 = 0
    /// Whether nothing follows ``last``.
    var isEnded = false

    /// An event that waits for its walk; bids that waited too long are merged into the newest.
    struct Pending {
        let event: EncodedEvent
        /// The sequence number of the first event it stands for.
        var first: UInt64
        /// When the first of them arrived, in the loop's milliseconds.
        var since: Int64
    }

    /// Events to walk; the walk of the first ones may be under way.
    var pending: Deque<Pending> = []
    /// How many of them the walk under way carries: they leave together, in one send to each watcher.
    var walkCount = 0
    /// Where the walk under way stands.
    var walkLane = 0
    var walkPosition = 0
    var isWalking: Bool { walkCount > 0 }
    /// When the walk under way began, in the loop's milliseconds.
    private var walkBegan: Int64 = 0
    /// Whether walks begin late because they take long themselves: bids then wait until they may merge.
    private var isBehind = false
    /// The bytes that the walk sends in its present lane, and where in them each of its events ends.
    var walkBytes: [UInt8] = []
    var walkEnds: [Int] = []
    /// Whether the channel stands in the worker's queue of walks.
    var isQueued = false
    /// Bids that arrive before this wait and merge (`conflate-ms`, or a loop that is behind), in the loop's
    /// milliseconds.
    var windowEnd: Int64 = 0
    /// Whether the channel stands in the worker's queue of open windows.
    var isWindowed = false

    // Greeting

    /// What the waiting watchers are being greeted with; `nil` when nobody is.
    private(set) var greeting: Attachment?
    /// Events that have arrived since ``greeting`` was made.
    private var greetingEvents: [EncodedEvent] = []
    /// Where in ``waiting`` the greeting stands.
    var greetingPosition = 0
    /// Whether the channel stands in the worker's queue of greetings.
    var isGreetingQueued = false

    /// The number of watchers that the hub was told last.
    var reportedViewers = 0

    init(topic: Topic, index: UInt32) {
        self.topic = topic
        self.index = index
    }

    var viewers: Int { watchers.reduce(waiting.count) { $0 + $1.count } }
    var hasWatchers: Bool { watchers.contains { $0.count > 0 } }
    var isEmpty: Bool { viewers == 0 }

    /// Whether nothing follows `sequence` in this auction. The state may know of an end whose events are
    /// still on their way.
    func isOver(at sequence: UInt64) -> Bool {
        isEnded && sequence >= max(last, snapshot?.sequence ?? 0)
    }

    /// Adds an event to walk, into the last one where that is a bid that has waited and whose walk has not
    /// begun. Returns whether it merged.
    func append(_ event: EncodedEvent, now: Int64) -> Bool {
        let hasUnbegun = pending.count > walkCount
        if hasUnbegun, let last = pending.last, merges(last, event, now: now) {
            pending[pending.count - 1] = Pending(event: event, first: last.first, since: last.since)
            return true
        }
        pending.append(Pending(event: event, first: event.sequence, since: now))
        return false
    }

    /// Chooses what the next walk carries: the first events, as far as they follow one another and fill no
    /// more than `bytes`. Bids among them that have waited merge, and all do when the first event has
    /// waited too long. Only between two walks; returns how many events merging saved.
    /// - Parameter opensWindow: whether a bid opens a window for those behind it, which then do not go with
    ///   it.
    func beginWalk(bytes: Int, now: Int64, opensWindow: Bool) -> Int {
        var saved = 0
        var total = 0
        walkLane = 0
        walkPosition = 0
        // Behind: then everything that may merge does, also what has just come, so that the walk carries the
        // newest price.
        let isLate = pending.first.map { now - $0.since >= Limits.behindMilliseconds } ?? false
        isBehind = isBehind || isLate
        walkBegan = now
        while walkCount < pending.count {
            let index = walkCount
            while index + 1 < pending.count,
                merges(pending[index], pending[index + 1].event, now: now, isLate: isLate)
            {
                let earlier = pending.remove(at: index)
                pending[index].first = earlier.first
                pending[index].since = earlier.since
                saved += 1
            }
            let next = pending[index]
            total += next.event.frame.count
            // What has no place in the order goes to everyone, whatever their cursor: it walks alone. So does
            // a jump, which follows nothing.
            let follows =
                index > 0 && next.event.sequence != 0 && !next.event.isJump
                && pending[index - 1].event.sequence != 0
                && next.first == pending[index - 1].event.sequence + 1 && total <= bytes
            guard index == 0 || follows else { break }
            walkCount += 1
            if next.event.isJump { break }
            if opensWindow, next.event.isConflatable { break }
        }
        return saved
    }

    /// The events that the walk under way carries.
    var walked: Deque<Pending>.SubSequence { pending.prefix(walkCount) }

    /// Forgets the events whose walk is over. Closing the last watcher may have retired the channel and
    /// emptied the queue.
    func endWalk(now: Int64) {
        pending.removeFirst(min(walkCount, pending.count))
        walkCount = 0
        walkBytes = []
        walkEnds = []
        isBehind = isBehind && now - walkBegan >= Limits.behindMilliseconds / 2
        // The next walk would carry one by one what may merge in a moment, and fall further behind.
        if isBehind, let first = pending.first, first.event.isConflatable {
            windowEnd = max(windowEnd, first.since + Limits.behindMilliseconds)
        }
    }

    // MARK: Greeting

    /// Begins to greet those who wait, from the first of them.
    func beginGreeting(_ attachment: Attachment) {
        greeting = attachment
        greetingEvents = []
    }

    func endGreeting() {
        greeting = nil
        greetingEvents = []
    }

    /// Notes an event that watchers not yet greeted must get after their first message. On overflow the
    /// greeting ends, and the remaining watchers need a newer attachment.
    func noteForGreeting(_ event: EncodedEvent) {
        guard greeting != nil, event.sequence != 0 else { return }
        // A jump breaks the sequence, so the older attachment cannot be extended past it.
        guard !event.isJump, greetingEvents.count < Limits.greetingEvents else { return endGreeting() }
        greetingEvents.append(event)
    }

    /// ``greeting`` as it stands now, with all that has arrived since.
    var currentGreeting: Attachment? {
        guard let greeting, !greetingEvents.isEmpty else { return greeting }
        return Attachment(
            topic: topic, number: greeting.number, snapshot: greeting.snapshot,
            events: greeting.events + greetingEvents, last: last, isThorough: greeting.isThorough)
    }

    private func merges(
        _ earlier: Pending, _ later: EncodedEvent, now: Int64, isLate: Bool = false
    ) -> Bool {
        guard earlier.event.isConflatable, later.isConflatable else { return false }
        return isLate || now < windowEnd || now - earlier.since >= Limits.behindMilliseconds
    }

    /// Whether what is pending may wait for the end of the window: bids alone.
    func isHeld(now: Int64) -> Bool {
        now < windowEnd && !isWalking && pending.allSatisfy(\.event.isConflatable)
    }
}
