// One topic on one loop: its watchers, the watchers that still wait for their first message, and the events
// whose walk is not finished. The first watcher brings the channel into being, and it is gone with the last.
// The channel decides what a walk carries, which watchers a stretch reaches, and when bids merge. Its caller
// does the sending. Pure: time is a parameter.

package import DequeModule
package import LiveProtocol

package final class Channel {
    package let topic: Topic
    /// The index in the loop's table, which watchers' records hold.
    package let index: UInt32
    /// The feed's number; `nil` until the first attachment.
    package var number: UInt32?

    /// The watchers that receive events, by ``DeliveryGroup``.
    package var watchers = [SubscriberList](repeating: SubscriberList(), count: DeliveryGroup.count)
    /// The watchers without their first message.
    package var waiting = SubscriberList()
    /// What the loop has asked of the feed and not received yet; `nil` when nothing is under way.
    private var requested: AttachmentNeeds?

    /// The newest state this loop was given; `nil` until the first attachment.
    package var snapshot: Snapshot?
    /// The sequence number of the last event that arrived here (its walk may not be finished).
    package private(set) var last: UInt64 = 0
    /// True when nothing follows ``last``.
    package private(set) var isEnded = false
    /// False while the feed says that the auction's Redis does not deliver.
    package var isLive = true

    /// An event that waits for its walk; bids that waited too long are merged into the newest.
    package struct Pending {
        package let event: EncodedEvent
        /// The sequence number of the first event it stands for.
        package fileprivate(set) var first: UInt64
        /// When the first of them arrived, in the loop's milliseconds.
        fileprivate var since: Int64
    }

    /// Events to walk; the walk of the first ones may be under way.
    package private(set) var pending: Deque<Pending> = []
    /// How many pending events the walk under way carries. They leave together, in one send to each watcher.
    package private(set) var walkCount = 0
    /// Where the walk under way stands: the group's index, and the place in its list.
    private var walkGroup = 0
    private var walkPosition = 0
    /// When the walk under way began, in the loop's milliseconds.
    private var walkBegan: Int64 = 0
    /// True while walks begin late because walks take long. Bids then wait until they may merge.
    private var isLate = false
    /// The bytes that the walk sends in its present group, and where in them each of its events ends.
    package var walkBytes: [UInt8] = []
    package var walkEnds: [Int] = []
    /// True while the channel stands in the loop's queue of walks.
    package var isQueued = false
    /// When the window closes, in the loop's milliseconds. Bids that arrive before it wait and merge
    /// (`conflate-ms`, or a loop that is late).
    package private(set) var windowEnd: Int64 = 0
    /// True while the channel stands in the loop's queue of open windows.
    package var isWindowed = false

    // Greeting

    /// What the waiting watchers are being greeted with; `nil` when no greeting is under way.
    private var greeting: Attachment?
    /// Events that have arrived since ``greeting`` was made.
    private var greetingEvents: [EncodedEvent] = []
    /// Where in ``waiting`` the greeting stands.
    private var greetingPosition = 0
    /// True while the channel stands in the loop's queue of greetings.
    package var isGreetingQueued = false

    /// The number of watchers that the feed was told last.
    package var reportedViewers = 0

    package init(topic: Topic, index: UInt32) {
        self.topic = topic
        self.index = index
    }

    package var viewers: Int { watchers.reduce(waiting.count) { $0 + $1.count } }
    package var hasWatchers: Bool { watchers.contains { $0.count > 0 } }
    package var isEmpty: Bool { viewers == 0 }

    /// True when nothing follows `sequence` in this auction. The state may know of an end whose events are
    /// still on their way.
    package func isOver(at sequence: UInt64) -> Bool {
        isEnded && sequence >= max(last, snapshot?.sequence ?? 0)
    }

    /// True while watchers must get something for which they have no cursor, so that nobody could tell who
    /// has got it.
    package var hasPendingWithoutCursor: Bool {
        pending.contains { $0.event.sequence == 0 && $0.event.treatment != .droppable }
    }

    // MARK: Asking the feed

    /// An attachment made from what this loop knows, if that is enough for a watcher with the cursor `since`;
    /// `nil` when the loop must ask the feed.
    package func ownAttachment(since: UInt64?) -> Attachment? {
        guard let number, let snapshot else { return nil }
        let isEnough =
            topic.kind == .user
            || since.map { $0 == last } ?? (snapshot.sequence >= last && snapshot.state != nil)
        guard isEnough else { return nil }
        return Attachment(
            topic: topic, number: number, snapshot: snapshot, events: [], last: last, isThorough: false,
            isLive: isLive)
    }

    /// Notes that watchers need something of the feed. Returns true when the loop must ask for it, and false
    /// when it has already asked for all of that.
    package func request(_ needs: AttachmentNeeds) -> Bool {
        if let requested, requested.isSuperset(of: needs) { return false }
        requested = (requested ?? []).union(needs)
        return true
    }

    // MARK: From the feed

    /// Takes over what the feed says of the topic. Returns the events that this loop watched for and missed,
    /// and whether they begin behind a jump.
    package func adopt(_ attachment: Attachment) -> (missed: [EncodedEvent], jumps: Bool) {
        requested = nil
        if number != attachment.number {
            number = attachment.number
            // Another number means another channel of the feed, which does not know the number of viewers
            // yet.
            reportedViewers = 0
        }
        guard snapshot != nil, attachment.last > last else { return ([], false) }
        return (
            attachment.events.filter { $0.sequence > last }, !attachment.extent.reaches(last)
        )
    }

    /// Moves the channel to the attachment's position. Call it after the missed events are enqueued.
    package func advance(to attachment: Attachment) {
        snapshot = attachment.snapshot
        // After a jump to a state that is ahead of the events, `last` goes back to the events. Watchers that
        // are greeted from here must get the events in between. For watchers that jumped, those events are
        // old.
        last = attachment.last
        if attachment.isEnded { isEnded = true }
    }

    /// Forgets what the feed said: the topic cannot be watched now.
    package func forgetFeed() {
        requested = nil
        number = nil
        snapshot = nil
        isLive = true
        endGreeting()
    }

    /// Takes the next event. Returns what became of it.
    package func take(_ event: EncodedEvent, now: Int64) -> Arrival {
        guard event.sequence == 0 || event.sequence > last else { return .ignored }
        if event.sequence != 0 { last = event.sequence }
        if event.endsAuction { isEnded = true }
        noteForGreeting(event)
        guard hasWatchers else { return .ignored }
        return append(event, now: now) ? .merged : .appended
    }

    package enum Arrival {
        /// The event was taken already, or there is no watcher to send it to.
        case ignored
        /// It waits for its walk.
        case appended
        /// The event has replaced a bid that waits for its walk.
        case merged
    }

    /// Adds an event to walk. Merges it into the last one if that is a bid that has waited and whose walk has
    /// not begun. Returns true when it merged.
    private func append(_ event: EncodedEvent, now: Int64) -> Bool {
        let hasUnbegun = pending.count > walkCount
        if hasUnbegun, let last = pending.last, merges(last, event, now: now) {
            pending[pending.count - 1] = Pending(event: event, first: last.first, since: last.since)
            return true
        }
        if event.treatment == .replaceable,
            let older = pending[walkCount...].firstIndex(where: { $0.event.treatment == .replaceable })
        {
            pending.remove(at: older)
        }
        pending.append(Pending(event: event, first: event.sequence, since: now))
        return false
    }

    private func merges(
        _ earlier: Pending, _ later: EncodedEvent, now: Int64, isLate: Bool = false
    ) -> Bool {
        guard earlier.event.isConflatable, later.isConflatable else { return false }
        return isLate || now < windowEnd || now - earlier.since >= FanoutLimits.lateMilliseconds
    }

    /// True while all pending events may wait for the end of the window, because all of them are bids.
    package func awaitsWindow(now: Int64) -> Bool {
        now < windowEnd && walkCount == 0 && pending.allSatisfy(\.event.isConflatable)
    }

    /// Drops what was to be walked, when the last watcher has left.
    package func dropPending() {
        pending = []
    }

    // MARK: Walks

    /// The events that the walk under way carries.
    package var walked: Deque<Pending>.SubSequence { pending.prefix(walkCount) }

    /// A part of a walk: some places of one group's list.
    package struct Stretch {
        package let group: DeliveryGroup
        package let places: Range<Int>
        /// True for the first stretch of a group: its bytes are to be made.
        package let beginsGroup: Bool
    }

    /// Chooses what the next walk carries: the first events, as far as they follow one another and fill at
    /// most `bytes`. Bids among them that have waited merge. All bids merge when the first event has waited
    /// too long. Call it only between two walks. Returns how many events merging saved.
    /// - Parameter window: for how many milliseconds a bid makes the bids behind it wait; 0 for not at all.
    package func beginWalk(bytes: Int, now: Int64, window: Int64) -> Int {
        precondition(walkCount == 0, "a walk is under way")
        var saved = 0
        var total = 0
        walkGroup = 0
        walkPosition = 0
        // When late, every bid that may merge does, even one that has just come. So the walk carries the
        // newest price.
        let waitsLong = pending.first.map { now - $0.since >= FanoutLimits.lateMilliseconds } ?? false
        isLate = isLate || waitsLong
        walkBegan = now
        while walkCount < pending.count {
            let index = walkCount
            while index + 1 < pending.count,
                merges(pending[index], pending[index + 1].event, now: now, isLate: waitsLong)
            {
                let earlier = pending.remove(at: index)
                pending[index].first = earlier.first
                pending[index].since = earlier.since
                saved += 1
            }
            let next = pending[index]
            total += next.event.frame.count
            guard index == 0 || follows(next, pending[index - 1]) && total <= bytes else { break }
            walkCount += 1
            if next.event.isJump { break }
            if window > 0, next.event.isConflatable { break }
        }
        if window > 0, walked.last?.event.isConflatable == true { windowEnd = now + window }
        return saved
    }

    /// True when `next` may share a walk with `earlier`. An event without a sequence number goes to every
    /// watcher, whatever the cursor, so it walks alone. A jump walks alone too, because it follows nothing.
    private func follows(_ next: Pending, _ earlier: Pending) -> Bool {
        next.event.sequence != 0 && !next.event.isJump && earlier.event.sequence != 0
            && next.first == earlier.event.sequence + 1
    }

    /// The next part of the walk under way, of at most `budget` places; `nil` when every group is done. The
    /// caller must end each part with ``endStretch(_:moved:)``.
    package func nextStretch(budget: Int) -> Stretch? {
        while walkCount > 0, let group = DeliveryGroup(rawValue: walkGroup) {
            let count = watchers[walkGroup].slots.count
            guard walkPosition < count else {
                walkGroup += 1
                continue
            }
            let beginsGroup = walkPosition == 0
            if beginsGroup { watchers[walkGroup].beginWalk() }
            let end = walkPosition + min(budget, count - walkPosition)
            return Stretch(group: group, places: walkPosition..<end, beginsGroup: beginsGroup)
        }
        return nil
    }

    /// Notes that a stretch was served; `moved(slot, position)` is called for each watcher whose position
    /// changed.
    package func endStretch(_ stretch: Stretch, moved: (UInt32, UInt32) -> Void) {
        walkPosition = stretch.places.upperBound
        guard walkPosition >= watchers[walkGroup].slots.count else { return }
        watchers[walkGroup].endWalk(moved: moved)
        walkPosition = 0
        walkGroup += 1
    }

    /// Forgets the events whose walk is over.
    package func endWalk(now: Int64) {
        // The last watcher may have left and dropped them.
        pending.removeFirst(min(walkCount, pending.count))
        walkCount = 0
        walkBytes = []
        walkEnds = []
        isLate = isLate && now - walkBegan >= FanoutLimits.lateMilliseconds / 2
        // Otherwise the next walk would carry bids one by one that may merge in a moment, and fall further
        // behind.
        if isLate, let first = pending.first, first.event.isConflatable {
            windowEnd = max(windowEnd, first.since + FanoutLimits.lateMilliseconds)
        }
    }

    // MARK: Greeting

    /// Begins to greet the waiting watchers, from the first one. An earlier greeting ends, because a newer
    /// attachment may serve watchers that the earlier one could not.
    package func beginGreeting(_ attachment: Attachment, moved: (UInt32, UInt32) -> Void) {
        leaveGreeting(moved: moved)
        greeting = attachment
        greetingEvents = []
    }

    /// The next waiting watchers, at most `budget` places, and the attachment to greet them with. Returns
    /// `nil` when the greeting was given up and the rest needs a newer attachment.
    package func nextGreeting(budget: Int) -> (attachment: Attachment, slots: [UInt32])? {
        guard let greeting else { return nil }
        if greetingPosition == 0, !waiting.slots.isEmpty { waiting.beginWalk() }
        let slots = Array(waiting.slots[greetingPosition...].prefix(budget))
        greetingPosition += slots.count
        guard !greetingEvents.isEmpty else { return (greeting, slots) }
        let attachment = Attachment(
            topic: topic, number: greeting.number, snapshot: greeting.snapshot,
            events: greeting.events + greetingEvents, last: last, isThorough: greeting.isThorough,
            isLive: isLive)
        return (attachment, slots)
    }

    /// Ends the greeting when every waiting watcher had a turn. Returns true while the greeting goes on.
    package func continuesGreeting(moved: (UInt32, UInt32) -> Void) -> Bool {
        if greetingPosition < waiting.slots.count { return true }
        leaveGreeting(moved: moved)
        endGreeting()
        return false
    }

    /// Ends the walk over the waiting watchers.
    package func leaveGreeting(moved: (UInt32, UInt32) -> Void) {
        guard greetingPosition > 0 else { return }
        greetingPosition = 0
        waiting.endWalk(moved: moved)
    }

    private func endGreeting() {
        greeting = nil
        greetingEvents = []
    }

    /// Notes an event that watchers not yet greeted must get after their first message. On overflow the
    /// greeting ends, and the remaining watchers need a newer attachment.
    private func noteForGreeting(_ event: EncodedEvent) {
        guard greeting != nil, event.sequence != 0 else { return }
        // A jump breaks the sequence, so the older attachment cannot be extended past it.
        guard !event.isJump, greetingEvents.count < FanoutLimits.greetingEvents else { return endGreeting() }
        greetingEvents.append(event)
    }
}
