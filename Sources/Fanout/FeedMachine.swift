// One auction as the feed follows it: its subscription, its place in the sequence, gaps and jumps, and the
// reads of state and log. It also knows which loops wait for what. Pure: Redis' answers, the loops' requests
// and the time come in as events. Actions go out, and the caller carries them out in their order.
//
// An event that follows its predecessor is delivered. Any other event opens a gap and is held while the log
// is read. After a second, the feed jumps over the gap by a state. The subscription is confirmed before the
// state is read, so no event is lost in between.

package import LiveProtocol

/// How a gap was found.
package enum RepairCause: Int, CaseIterable, Sendable {
    /// An event came whose predecessor had not come.
    case hole
    /// The state that was read after a lost link is ahead of the events.
    case reconnect
}

package struct FeedMachine: ~Copyable {
    package enum Phase: Sendable {
        /// SUBSCRIBE is on its way, or the link is down. Can transition to: reading; a user's topic to live.
        case subscribing
        /// Subscribed; the state is not read yet. Can transition to: live, subscribing.
        case reading
        /// In step with Redis. Can transition to: subscribing.
        case live
    }

    /// What the caller must do.
    package enum Action {
        /// Hand an event to these loops, except those whose mailbox has overflowed meanwhile.
        case deliver(EncodedEvent, to: LoopSet)
        /// Tell these loops where the auction stands.
        case attach(Attachment, to: LoopSet)
        /// Tell these loops that events were skipped, and what replaces them.
        case jump(Snapshot, to: LoopSet)
        /// Tell these loops whether the auction's Redis delivers.
        case announce(isLive: Bool, to: LoopSet)
        /// Read the state; `isRetry` when an earlier read brought nothing of use a moment ago.
        case readState(isRetry: Bool)
        /// Read the log behind this sequence number.
        case readLog(after: UInt64)
        /// Read the whole log, newest first.
        case readHistory
        case count(Occurrence)
    }

    /// What is worth counting.
    package enum Occurrence: Sendable {
        case duplicate
        case gapOpened(RepairCause)
        /// After so many milliseconds.
        case gapFilled(Int64)
        /// The gap was given up, after so many milliseconds.
        case jumped(Int64)
    }

    /// A gap that is being repaired.
    private struct Repair {
        let deadline: Int64
        var nextReadAt: Int64
        var isReading = false
        /// Events up to here are known to exist.
        let target: UInt64
    }

    package let topic: Topic
    package let number: UInt32
    private var phase = Phase.subscribing
    private var order: SequenceGuard<EncodedEvent>
    private var ring: ReplayRing
    package private(set) var snapshot: Snapshot?

    private var repair: Repair?
    /// When the repair under way began, also while the machine waits for a state to jump to.
    package private(set) var repairBegan: Int64?
    /// True after a repair's time is over, while the state is being read for the jump.
    private var isJumping = false
    /// True while a state read is queued or under way.
    private var isReadingState = false
    /// Since when Redis has had no state that the ring leads on from.
    private var stateMissingSince: Int64?
    /// True while the whole log is being read for a resume.
    package private(set) var isReadingHistory = false
    /// Until when the ring also holds what was read from the log; `nil` when it does not.
    package private(set) var widenedUntil: Int64?
    /// The ring's first event when the log was read.
    private var widenedFrom: UInt64?

    /// Loops that are sent this auction's events.
    package private(set) var attached: LoopSet = []
    /// Loops that are not answered yet, by what they need: only the events, a state, the log.
    private var resuming: LoopSet = []
    private var waiting: LoopSet = []
    private var logging: LoopSet = []
    /// Loops whose mailbox overflowed: they are sent the ring when there is room.
    package private(set) var overflowed: LoopSet = []

    /// Whether the link delivers, as ``deliveryChanged(_:_:)`` said last.
    private var isDelivering: Bool
    /// What watchers were told last. They are told `true` again only when they have what they missed.
    package private(set) var isAnnouncedLive: Bool

    /// - Parameter isDelivering: whether the link delivers now.
    package init(
        topic: Topic, number: UInt32, historyEvents: Int, heldEvents: Int = FanoutLimits.heldEvents,
        isDelivering: Bool = true
    ) {
        self.topic = topic
        self.number = number
        self.isDelivering = isDelivering
        isAnnouncedLive = isDelivering || topic.kind != .auction
        order = SequenceGuard(limit: heldEvents)
        ring = ReplayRing(capacity: historyEvents)
    }

    // MARK: What the caller may ask

    /// The sequence number of the last event delivered; 0 before the first.
    package var last: UInt64 { order.last ?? 0 }
    /// True while a loop watches, or waits to.
    package var isWatched: Bool { !watchers.isEmpty }
    /// Every loop that watches, or waits to.
    package var watchers: LoopSet { attached.union(resuming).union(waiting).union(logging) }
    /// True when the auction has had a state or an event: it may be watched again soon.
    package var hasHadSomething: Bool { last > 0 || snapshot?.state != nil }
    /// True until Redis has confirmed the subscription.
    package var isSubscribing: Bool { phase == .subscribing }
    /// True once the topic was read after the confirmed subscription.
    package var isInStep: Bool { phase == .live }
    /// True while a gap needs ``tick(now:mayReadLog:_:)``.
    package var isRepairing: Bool { repair != nil }
    /// Events that wait behind a gap.
    package var heldEvents: Int { order.heldCount }
    /// Bytes and number of the events kept.
    package var historyBytes: Int { ring.bytes }
    package var historyCount: Int { ring.count }

    /// True when the snapshot and the ring together lead to ``last`` without a gap.
    private var canServe: Bool {
        guard order.last != nil, let snapshot else { return false }
        guard snapshot.sequence < last else { return true }
        guard let first = ring.first else { return false }
        return first <= snapshot.sequence + 1
    }

    // MARK: Loops

    /// A loop has its first watcher, or a new one that it cannot serve by itself.
    package mutating func attach(loop: Int, needs: AttachmentNeeds, _ actions: inout [Action]) {
        let loop = LoopSet(loop: loop)
        if needs.contains(.log) {
            // The log was read a moment ago for another loop.
            let hasWholeLog = widenedUntil != nil && ring.first == widenedFrom
            if hasWholeLog, canServe { return answer(loop, isThorough: true, &actions) }
            logging.formUnion(loop)
            if phase == .live { readState(&actions) }
        } else if needs.contains(.state) {
            waiting.formUnion(loop)
            // The feed is in step, but the state at hand is older than the last event. One read serves all
            // that join meanwhile. A snapshot without a state may be older than the publication of the
            // auction's creation, which is not an event.
            let isFresh = snapshot?.sequence == last && snapshot?.state != nil
            if phase == .live, !isFresh { readState(&actions) }
        } else {
            resuming.formUnion(loop)
        }
        answerWaiting(&actions)
    }

    /// A loop's last watcher left.
    package mutating func detach(loop: Int) {
        let loop = LoopSet(loop: loop)
        attached.subtract(loop)
        resuming.subtract(loop)
        waiting.subtract(loop)
        logging.subtract(loop)
        overflowed.subtract(loop)
    }

    /// A loop's mailbox is full: it is sent the ring later.
    package mutating func overflow(loop: Int) {
        overflowed.formUnion(LoopSet(loop: loop))
    }

    /// A loop lost an event that cannot be read again. It sends its watchers away and gets no further events.
    package mutating func drop(loop: Int) {
        attached.subtract(LoopSet(loop: loop))
    }

    /// These loops have room in their mailbox again, and are sent what they missed.
    package mutating func catchUp(_ loops: LoopSet, _ actions: inout [Action]) {
        guard canServe else {
            // The loop may have to jump, and then shows this state.
            if phase == .live { readState(&actions) }
            return
        }
        let loops = overflowed.intersection(loops)
        overflowed.subtract(loops)
        answer(loops, isThorough: false, &actions)
    }

    /// Answers every waiting loop whose needs can be met.
    private mutating func answerWaiting(_ actions: inout [Action]) {
        guard order.last != nil, snapshot != nil else { return }
        var ready = resuming
        // While a fresh state is on its way, joiners wait for it. If it does not come, the older one serves.
        if canServe, !isReadingState {
            ready.formUnion(waiting)
            if !logging.isEmpty, !isReadingHistory, phase != .subscribing {
                isReadingHistory = true
                actions.append(.readHistory)
            }
        }
        if !canServe, phase == .live, !waiting.union(logging).isEmpty { readState(&actions) }
        // A loop that missed events may have to jump, and then shows the state.
        if !canServe { ready.subtract(overflowed) }
        resuming.subtract(ready)
        waiting.subtract(ready)
        answer(ready, isThorough: false, &actions)
    }

    private mutating func answer(_ loops: LoopSet, isThorough: Bool, _ actions: inout [Action]) {
        guard !loops.isEmpty, let snapshot else { return }
        attached.formUnion(loops)
        let attachment = Attachment(
            topic: topic, number: number, snapshot: snapshot, events: recentEvents, last: last,
            isThorough: isThorough, isLive: isAnnouncedLive)
        actions.append(.attach(attachment, to: loops))
    }

    private var recentEvents: [EncodedEvent] {
        ring.events(after: (ring.first ?? 1) - 1) ?? []
    }

    // MARK: The link

    /// Redis confirmed the subscription.
    package mutating func subscribed(_ actions: inout [Action]) {
        guard phase == .subscribing else { return }
        guard topic.kind == .auction else {
            phase = .live
            order.establish(0)
            snapshot = Snapshot(sequence: 0, state: nil, isEnded: false)
            return answerWaiting(&actions)
        }
        // The state is read only now, so that no event is lost between the state and the first event.
        phase = .reading
        readState(&actions)
    }

    /// The link is down. Everything under way is forgotten. Loops that can be served with what is here are
    /// served.
    package mutating func linkLost(_ actions: inout [Action]) {
        phase = .subscribing
        stateMissingSince = nil
        isReadingState = false
        isJumping = false
        isReadingHistory = false
        repair = nil
        repairBegan = nil
        answerWaiting(&actions)
    }

    /// The link delivers again, or no longer.
    package mutating func deliveryChanged(_ isDelivering: Bool, _ actions: inout [Action]) {
        self.isDelivering = isDelivering
        guard !isDelivering else { return announceIfLevel(&actions) }
        guard isAnnouncedLive, topic.kind == .auction else { return }
        isAnnouncedLive = false
        actions.append(.announce(isLive: false, to: attached))
    }

    /// Tells the watchers that the auction is live again, once they have what they missed meanwhile.
    private mutating func announceIfLevel(_ actions: inout [Action]) {
        guard !isAnnouncedLive, isDelivering, phase == .live, repair == nil, !isJumping else { return }
        isAnnouncedLive = true
        actions.append(.announce(isLive: true, to: attached))
    }

    // MARK: Events

    /// An event came through pub/sub.
    package mutating func received(_ event: EncodedEvent, now: Int64, _ actions: inout [Action]) {
        guard event.sequence != 0 else { return actions.append(.deliver(event, to: attached)) }
        switch order.offer(event, sequence: event.sequence) {
        case .deliver:
            deliver(event, &actions)
            deliverHeld(now: now, &actions)
        case .duplicate: actions.append(.count(.duplicate))
        case .held: if phase == .live { beginRepair(.hole, target: event.sequence - 1, now: now, &actions) }
        case .overflow: giveUp(&actions)
        }
    }

    private mutating func deliver(_ event: EncodedEvent, _ actions: inout [Action]) {
        ring.append(event)
        actions.append(.deliver(event, to: attached))
    }

    private mutating func deliverHeld(now: Int64, _ actions: inout [Action]) {
        while let event = order.takeNextHeld() { deliver(event, &actions) }
        guard let repair, !order.hasHole, last >= repair.target else { return }
        self.repair = nil
        actions.append(.count(.gapFilled(now - (repairBegan ?? now))))
        repairBegan = nil
        announceIfLevel(&actions)
    }

    // MARK: States

    private mutating func readState(_ actions: inout [Action]) {
        guard !isReadingState, phase != .subscribing else { return }
        isReadingState = true
        actions.append(.readState(isRetry: stateMissingSince != nil))
    }

    /// The state was read; `nil` when Redis has none, or none of use.
    package mutating func stateRead(_ state: Snapshot?, now: Int64, _ actions: inout [Action]) {
        isReadingState = false
        if isJumping { return finishJump(state, now: now, &actions) }
        let isFirst = order.last == nil
        let isReconnect = phase == .reading && !isFirst
        phase = .live
        if isFirst { order.establish(state?.sequence ?? 0) }
        // The state comes before the held events: a waiting loop is shown this state, and then each event.
        adopt(state, now: now)
        deliverHeld(now: now, &actions)
        if isReconnect, let state, state.sequence > last {
            beginRepair(.reconnect, target: state.sequence, now: now, &actions)
        } else if let first = order.firstHeld {
            beginRepair(.hole, target: first - 1, now: now, &actions)
        }
        answerWaiting(&actions)
        announceIfLevel(&actions)
    }

    /// Makes `state` the snapshot for joiners, unless the one at hand is newer.
    private mutating func adopt(_ state: Snapshot?, now: Int64) {
        if let state, state.sequence >= snapshot?.sequence ?? 0 { snapshot = state }
        var standsAtLast = snapshot?.state == nil
        if !standsAtLast, !canServe {
            // Redis lost the state. The relay will write it again, which is worth waiting for.
            let since = stateMissingSince ?? now
            stateMissingSince = since
            standsAtLast = now - since >= FanoutLimits.stateWaitMilliseconds
        }
        if canServe { stateMissingSince = nil }
        // Events were published without a state, or with a state that the ring does not reach. The snapshot
        // then stands at the last sequence number seen.
        guard standsAtLast else { return }
        stateMissingSince = nil
        snapshot = Snapshot(sequence: last, state: snapshot?.state, isEnded: snapshot?.isEnded == true)
    }

    // MARK: Gaps

    private mutating func beginRepair(
        _ cause: RepairCause, target: UInt64, now: Int64, _ actions: inout [Action]
    ) {
        guard repair == nil, !isJumping else { return }
        repair = Repair(
            deadline: now + FanoutLimits.gapMilliseconds, nextReadAt: now, target: target)
        repairBegan = repairBegan ?? now
        actions.append(.count(.gapOpened(cause)))
    }

    /// Reads the log, or gives a gap up, when that is due.
    /// - Parameter mayReadLog: false while the link has as many reads under way as it may.
    package mutating func tick(now: Int64, mayReadLog: Bool, _ actions: inout [Action]) {
        guard let repair, phase != .subscribing else { return }
        if now >= repair.deadline {
            giveUp(&actions)
        } else if now >= repair.nextReadAt, !repair.isReading, mayReadLog {
            self.repair?.isReading = true
            actions.append(.readLog(after: last))
        }
    }

    /// The log was read behind ``last``; `nil` when Redis did not answer, and the read is to be repeated.
    package mutating func logRead(_ events: [EncodedEvent]?, now: Int64, _ actions: inout [Action]) {
        repair?.isReading = false
        repair?.nextReadAt = now + FanoutLimits.gapRetryMilliseconds
        for event in events ?? [] where event.sequence > last { received(event, now: now, &actions) }
    }

    /// Gives the gap up and asks for the state to jump to.
    private mutating func giveUp(_ actions: inout [Action]) {
        repair = nil
        guard !isJumping else { return }
        isJumping = true
        readState(&actions)
    }

    private mutating func finishJump(_ state: Snapshot?, now: Int64, _ actions: inout [Action]) {
        isJumping = false
        phase = .live
        let floor = max(last, order.firstHeld.map { $0 - 1 } ?? 0)
        let target = max(floor, state?.sequence ?? 0)
        guard target > last else {
            order.establish(target)
            deliverHeld(now: now, &actions)
            adopt(state, now: now)
            answerWaiting(&actions)
            return announceIfLevel(&actions)
        }
        // A state older than the gap's end still is the best there is to show.
        let shown = state?.sequence ?? 0 >= snapshot?.sequence ?? 0 ? state : snapshot
        let jump = Snapshot(sequence: target, state: shown?.state, isEnded: shown?.isEnded == true)
        actions.append(.count(.jumped(now - (repairBegan ?? now))))
        repairBegan = nil
        order.establish(target)
        clearHistory()
        widenedUntil = nil
        snapshot = jump
        actions.append(.jump(jump, to: attached))
        deliverHeld(now: now, &actions)
        answerWaiting(&actions)
        if let first = order.firstHeld { beginRepair(.hole, target: first - 1, now: now, &actions) }
        announceIfLevel(&actions)
    }

    // MARK: History

    /// The whole log was read, newest event first, for watchers that resume from before the ring. One read
    /// serves all of them, and for a while those that come later.
    package mutating func historyRead(_ events: [EncodedEvent], now: Int64, _ actions: inout [Action]) {
        isReadingHistory = false
        // Takes what joins on to the ring, and stops at a gap.
        var next = ring.first ?? last + 1
        var older: [EncodedEvent] = []
        for event in events where event.sequence != 0 && event.sequence + 1 == next {
            older.append(event)
            next = event.sequence
        }
        ring.widen(with: older.reversed())
        widenedUntil = now + FanoutLimits.widenedMilliseconds
        widenedFrom = ring.first
        // A loop that missed events may have to jump: it waits for a state that the ring leads on from.
        let ready = canServe ? logging : logging.subtracting(overflowed)
        logging.subtract(ready)
        answer(ready, isThorough: true, &actions)
        if !logging.isEmpty { readState(&actions) }
    }

    /// Drops the events that the ring holds beyond its own capacity.
    package mutating func narrow() {
        ring.narrow()
        widenedUntil = nil
    }

    package mutating func dropOldestEvent() {
        ring.dropOldest()
    }

    package mutating func clearHistory() {
        ring.removeAll()
    }
}
