// How a watcher comes to a channel, gets its first message, and leaves.

import AuctionEvents
import DequeModule
import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Puts a new watcher on a topic; its first message comes at once when this loop can tell.
    /// - Parameter since: the cursor it gave.
    func join(_ slot: UInt32, _ topic: Topic, since: UInt64?) {
        let generation = slab[slot].generation
        let channel = channelsByTopic[topic] ?? makeChannel(topic)
        slab[slot].channel = channel.index
        slab[slot].phase = .awaitingSnapshot
        slab[slot].listPosition = channel.waiting.append(slot)
        slab[slot].cursor = since ?? 0
        if since != nil { slab[slot].flags.insert(.hasCursor) } else { slab[slot].flags.remove(.hasCursor) }
        countWatcher(slot, 1)
        scheduleFirstMessage(slot)
        if let attachment = ownAttachment(channel, since: since) {
            var greeting = Greeting(attachment)
            serve(slot, on: channel, &greeting)
        } else {
            requestAttachment(channel, since == nil && topic.kind == .auction ? .state : [])
        }
        // A stream that gave no cursor is answered 200 whatever comes, so its head need not wait.
        guard since == nil, slab.isCurrent(slot, generation: generation),
            slab[slot].phase == .awaitingSnapshot
        else { return }
        openIfStream(slot)
    }

    /// What this loop has itself, where that will do for a watcher with the cursor `since`.
    private func ownAttachment(_ channel: Channel, since: UInt64?) -> Attachment? {
        guard let number = channel.number, let snapshot = channel.snapshot else { return nil }
        let isEnough =
            channel.topic.kind == .user
            || since.map { $0 == channel.last }
                ?? (snapshot.sequence >= channel.last && snapshot.state != nil)
        guard isEnough else { return nil }
        return Attachment(
            topic: channel.topic, number: number, snapshot: snapshot, events: [], last: channel.last,
            isThorough: false)
    }

    /// Takes a watcher off its topic, wherever it stands.
    func leaveChannel(_ slot: UInt32) {
        guard slab[slot].channel != ConnectionSlab.none, let channel = channels[Int(slab[slot].channel)]
        else { return }
        let position = slab[slot].listPosition
        let lane = Lane(slab[slot]).rawValue
        let moved =
            slab[slot].phase == .awaitingSnapshot
            ? channel.waiting.remove(at: position) : channel.watchers[lane].remove(at: position)
        if let moved { slab[moved].listPosition = position }
        slab[slot].channel = ConnectionSlab.none
        slab[slot].listPosition = ConnectionSlab.none
        countWatcher(slot, -1)
        if channel.isEmpty { retire(channel) }
    }

    /// Counts a watcher that came (1) or left (−1).
    func countWatcher(_ slot: UInt32, _ change: Int) {
        switch slab[slot].transport {
        case .http: preconditionFailure("a connection without a watch is no watcher")
        case .webSocket: handle.counters.webSockets.add(change)
        case .eventStream: handle.counters.eventStreams.add(change)
        case .longPoll: handle.counters.longPolls.add(change)
        case .subscription: handle.counters.subscriptions.add(change)
        }
    }

    // MARK: First messages

    /// What watchers are greeted with, and the snapshots made of it so far.
    struct Greeting {
        let attachment: Attachment
        /// Index 1 holds the snapshot with `complete:true`, index 0 the other. Each is made on first use.
        fileprivate var snapshots: [EncodedEvent?] = [nil, nil]

        init(_ attachment: Attachment) {
            self.attachment = attachment
        }
    }

    /// Begins to give those who wait their first messages and what followed, as far as `attachment` goes.
    func greetWaiting(_ channel: Channel, _ attachment: Attachment) {
        guard channel.waiting.count > 0 else { return }
        guard channel.topic.kind == .auction else { return beginWatching(channel, attachment) }
        // A newer attachment may serve those whom an earlier one could not.
        leaveGreeting(channel)
        channel.beginGreeting(attachment)
        guard !channel.isGreetingQueued else { return }
        channel.isGreetingQueued = true
        greetings.append(channel)
    }

    /// A user's watchers get no first message, so all begin at once: the next notification, which has no
    /// sequence number, must find them watching.
    private func beginWatching(_ channel: Channel, _ attachment: Attachment) {
        var greeting = Greeting(attachment)
        for slot in channel.waiting.slots
        where slot != SubscriberList.tombstone && isWaiting(slot, on: channel) {
            serve(slot, on: channel, &greeting)
        }
    }

    /// Goes on with the greetings, a stretch of each in turn, up to the turn's budget.
    func continueGreetings() {
        var budget = Limits.greetingsPerTurn
        while budget > 0, let channel = greetings.popFirst() {
            channel.isGreetingQueued = false
            // Its last watcher may have left.
            guard channels[Int(channel.index)] === channel else { continue }
            guard let attachment = channel.currentGreeting else {
                leaveGreeting(channel)
                if channel.waiting.count > 0 { requestAttachment(channel, .state) }
                continue
            }
            budget -= greet(channel, with: attachment, budget: min(budget, Limits.walkChunk))
            guard channels[Int(channel.index)] === channel else { continue }
            if channel.greetingPosition < channel.waiting.slots.count {
                channel.isGreetingQueued = true
                greetings.append(channel)
            } else {
                leaveGreeting(channel)
                channel.endGreeting()
            }
        }
    }

    /// Ends the walk over those who wait, if one is under way.
    private func leaveGreeting(_ channel: Channel) {
        guard channel.greetingPosition > 0 else { return }
        channel.greetingPosition = 0
        channel.waiting.endWalk { slot, position in slab[slot].listPosition = position }
    }

    /// Greets at most `budget` of those who wait; returns how many places were used, at least 1.
    private func greet(_ channel: Channel, with attachment: Attachment, budget: Int) -> Int {
        guard !channel.waiting.slots.isEmpty else { return 1 }
        if channel.greetingPosition == 0 { channel.waiting.beginWalk() }
        let start = channel.greetingPosition
        let slots = Array(channel.waiting.slots[start...].prefix(budget))
        channel.greetingPosition = start + slots.count
        var greeting = Greeting(attachment)
        // A send may close its watcher, and a slow client's other subscriptions with it.
        for slot in slots where slot != SubscriberList.tombstone && isWaiting(slot, on: channel) {
            serve(slot, on: channel, &greeting)
        }
        return max(1, slots.count)
    }

    private func isWaiting(_ slot: UInt32, on channel: Channel) -> Bool {
        slab[slot].phase == .awaitingSnapshot && slab[slot].channel == channel.index
    }

    /// Gives a watcher that waits its first message and what followed, if `greeting` leads to it.
    private func serve(_ slot: UInt32, on channel: Channel, _ greeting: inout Greeting) {
        let attachment = greeting.attachment
        let cursor = slab[slot].flags.contains(.hasCursor) ? slab[slot].cursor : nil
        let decision =
            channel.topic.kind == .user
            ? Resumption.resumed : Resumption(cursor: cursor, on: attachment.footing)
        if case .later(let needsLog) = decision {
            return requestAttachment(channel, needsLog ? [.state, .log] : .state)
        }
        beginWatching(slot, on: channel)
        guard channel.topic.kind == .auction else {
            scheduleHeartbeat(slot, isFirst: true)
            return openIfStream(slot)
        }
        if case .snapshot(let complete) = decision {
            handle.counters.snapshots.add()
            let first =
                greeting.snapshots[complete ? 1 : 0]
                ?? EventEncoder.snapshot(
                    attachment.snapshot, auctionID: channel.topic.id, complete: complete,
                    serverTime: serverTime())
            greeting.snapshots[complete ? 1 : 0] = first
            greet(
                slot, on: channel, first, at: attachment.snapshot.sequence, then: attachment,
                complete: complete)
        } else {
            let since = slab[slot].cursor
            handle.counters.resumes.add()
            let first = EventEncoder.resumed(
                since: since, sequence: max(attachment.last, since), auctionID: channel.topic.id,
                serverTime: serverTime())
            greet(slot, on: channel, first, at: since, then: attachment, complete: true)
        }
    }

    /// Moves a watcher from those who wait to those who get events.
    private func beginWatching(_ slot: UInt32, on channel: Channel) {
        let position = slab[slot].listPosition
        if let moved = channel.waiting.remove(at: position) { slab[moved].listPosition = position }
        slab[slot].phase = .watching
        slab[slot].listPosition = channel.watchers[Lane(slab[slot]).rawValue].append(slot)
    }

    /// Sends a watcher that now stands at `position` its first message and the events behind it.
    private func greet(
        _ slot: UInt32, on channel: Channel, _ first: EncodedEvent, at position: UInt64,
        then attachment: Attachment, complete: Bool
    ) {
        slab[slot].cursor = max(attachment.last, position)
        let events = attachment.events.filter { $0.sequence > position }
        switch slab[slot].transport {
        case .longPoll: greetPoll(slot, on: channel, first, at: position, then: events, complete: complete)
        case .eventStream where first.type == "RESUMED" && channel.isOver(at: position):
            // A browser stops coming back after this.
            answerStreamOver(slot)
        case .subscription:
            timers.cancel(slot)
            sendFirst(slot, first, then: events)
        case .http, .webSocket, .eventStream:
            scheduleHeartbeat(slot, isFirst: true)
            if channel.isEnded { scheduleDeparture(slot, of: channel) }
            sendFirst(slot, first, then: events)
        }
    }

    /// Sends a first message and the events behind it: in one piece while that is small, else through a
    /// backlog, where bids merge.
    private func sendFirst(_ slot: UInt32, _ first: EncodedEvent, then events: [EncodedEvent]) {
        handle.counters.deliveries.add(events.count)
        let connection = connection(of: slot)
        let head = takeHead(slot)
        let bytes = events.reduce(first.frame.count) { $0 + $1.frame.count }
        if slab[connection].flags.contains(.hasBacklog) {
            // A watcher that is too slow for it is gone before the last of them, and its subscription's slot
            // with it.
            let generation = slab[slot].generation
            if !head.isEmpty { sendBytes(connection, head) }
            for event in [first] + events where slab.isCurrent(slot, generation: generation) {
                send(event, to: slot)
            }
        } else if bytes <= Limits.replayBytes {
            let output = ([first] + events).reduce(into: head) { output, event in
                output += encode(event, from: event.sequence, watch: slot, over: connection)
            }
            sendBytes(connection, output)
        } else {
            var backlog = makeBacklog(connection, rest: head)
            // Bounded by the log's length; whoever does not take it is closed as slow.
            for event in [first] + events {
                _ = backlog.enqueue(event, first: event.sequence, watch: slot, bounds: Limits.replayBounds)
            }
            backlogs[connection] = backlog
            noteBacklog(connection)
            flushBacklog(connection)
        }
    }
}
