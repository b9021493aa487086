// First messages: a SNAPSHOT, or a RESUMED and the events behind it, to each watcher that waits. A crowd is
// greeted in stretches, so that the fan-out goes on in between.

import DequeModule
import Fanout
import LiveProtocol
import Telemetry

/// What watchers are greeted with, and the snapshots made of it so far.
struct Greeting {
    let attachment: Attachment
    private var complete: EncodedEvent?
    private var incomplete: EncodedEvent?

    init(_ attachment: Attachment) {
        self.attachment = attachment
    }

    /// The snapshot as a message, made on first use.
    mutating func snapshot(complete isComplete: Bool, _ make: (Snapshot) -> EncodedEvent) -> EncodedEvent {
        if let made = isComplete ? complete : incomplete { return made }
        let made = make(attachment.snapshot)
        if isComplete { complete = made } else { incomplete = made }
        return made
    }
}

extension Watching {
    /// Begins to give waiting watchers their first messages and what followed, as far as `attachment` goes.
    func greetWaiting(_ channel: Channel, _ attachment: Attachment) {
        guard channel.waiting.count > 0 else { return }
        guard channel.topic.kind == .auction else { return serveAll(channel, attachment) }
        channel.beginGreeting(attachment, moved: notePosition)
        guard !channel.isGreetingQueued else { return }
        channel.isGreetingQueued = true
        greetings.append(channel)
    }

    /// A user's watchers get no first message, so all begin at once. The next notification has no sequence
    /// number, so it must find them watching.
    private func serveAll(_ channel: Channel, _ attachment: Attachment) {
        var greeting = Greeting(attachment)
        for slot in channel.waiting.slots where isWaiting(slot, on: channel) {
            serve(slot, on: channel, &greeting)
        }
    }

    /// Continues the greetings, a stretch of each in turn, up to the turn's budget.
    func continueGreetings() {
        var budget = Limits.greetingsPerTurn
        while budget > 0, let channel = greetings.popFirst() {
            channel.isGreetingQueued = false
            // Its last watcher may have left.
            guard isOpen(channel) else { continue }
            guard let stretch = channel.nextGreeting(budget: min(budget, Limits.walkChunk)) else {
                channel.leaveGreeting(moved: notePosition)
                if channel.waiting.count > 0 { requestAttachment(channel, .state) }
                continue
            }
            var greeting = Greeting(stretch.attachment)
            for slot in stretch.slots where isWaiting(slot, on: channel) {
                serve(slot, on: channel, &greeting)
            }
            budget -= max(1, stretch.slots.count)
            // The last watcher may have been a poll, which is answered now.
            guard isOpen(channel), channel.continuesGreeting(moved: notePosition) else { continue }
            channel.isGreetingQueued = true
            greetings.append(channel)
        }
    }

    /// A watcher has moved in its list.
    func notePosition(_ slot: UInt32, _ position: UInt32) {
        connections.setListPosition(slot, position)
    }

    private func isWaiting(_ slot: UInt32, on channel: Channel) -> Bool {
        slot != SubscriberList.tombstone && connections[slot].phase == .joining
            && connections[slot].channel == channel.index && !connections[slot].flags.contains(.isEnding)
    }

    /// Gives a watcher that waits its first message and what followed, if `greeting` leads to it.
    func serve(_ slot: UInt32, on channel: Channel, _ greeting: inout Greeting) {
        let attachment = greeting.attachment
        guard channel.topic.kind == .auction else {
            beginWatching(slot, on: channel)
            connections.unmark(slot, .isMoved)
            scheduleHeartbeat(slot, isFirst: true)
            return openIfStream(slot)
        }
        let cursor = connections[slot].flags.contains(.hasCursor) ? connections[slot].cursor : nil
        let isMoved = connections[slot].flags.contains(.isMoved)
        switch attachment.welcome(cursor: cursor, isMoved: isMoved) {
        case .later(let needs): requestAttachment(channel, needs)
        case .snapshot(let complete, let position, let events):
            context.counters.snapshots.add()
            if !complete { context.counters.resumes.add(.incomplete) }
            let first = greeting.snapshot(complete: complete) { snapshot in
                EventEncoder.snapshot(
                    snapshot, auctionID: channel.topic.id, complete: complete,
                    serverTime: context.serverTime())
            }
            welcome(
                slot, on: channel, first, at: position, then: events, upTo: attachment.last,
                complete: complete)
        case .resumed(_, _, let events) where isMoved:
            continueWatching(slot, on: channel, then: events, upTo: attachment.last)
            tellFeed(slot, on: channel)
        case .resumed(let since, let last, let events):
            context.counters.resumes.add(attachment.isThorough ? .log : .memory)
            let first = EventEncoder.resumed(
                since: since, sequence: last, auctionID: channel.topic.id, serverTime: context.serverTime())
            welcome(
                slot, on: channel, first, at: since, then: events, upTo: attachment.last, complete: true)
        }
    }

    /// Lets a watcher begin at `position` with its first message, and sends the events behind it.
    private func welcome(
        _ slot: UInt32, on channel: Channel, _ first: EncodedEvent, at position: UInt64,
        then events: [EncodedEvent], upTo last: UInt64, complete: Bool
    ) {
        beginWatching(slot, on: channel)
        connections.setCursor(slot, max(last, position))
        if isPoll(slot) {
            return greetPoll(slot, on: channel, first, at: position, then: events, complete: complete)
        }
        switch connections[slot].transport {
        case .eventStream where first.type == "RESUMED" && channel.isOver(at: position):
            // A browser stops coming back after this.
            answerStreamOver(slot)
        case .subscription:
            connections.cancelTimer(slot)
            sendFirst(slot, first, then: events)
        case .http, .longPoll, .webSocket, .eventStream:
            scheduleHeartbeat(slot, isFirst: true)
            if channel.isEnded { scheduleDeparture(slot, of: channel) }
            sendFirst(slot, first, then: events)
        }
        tellFeed(slot, on: channel)
    }

    /// Sends a first message and the events behind it: in one piece while that is small, else through a
    /// backlog, where bids merge.
    private func sendFirst(_ slot: UInt32, _ first: EncodedEvent, then events: [EncodedEvent]) {
        context.counters.deliveries.add(events.count)
        let connection = connections.connection(of: slot)
        let head = takeHead(slot)
        let bytes = events.reduce(first.frame.count) { $0 + $1.frame.count }
        if connections[connection].flags.contains(.hasBacklog) {
            connections.settle(output.send(head, over: connection), of: slot)
            for event in [first] + events { connections.settle(output.send(event, to: slot), of: slot) }
        } else if bytes <= Limits.replayBytes {
            let bytes = ([first] + events).reduce(into: head) { bytes, event in
                bytes += output.encode(event, from: event.sequence, watch: slot, over: connection)
            }
            connections.settle(output.send(bytes, over: connection), of: slot)
        } else {
            output.queueReplay([first] + events, behind: head, to: slot)
            flush(connection)
        }
    }
}
