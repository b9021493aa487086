// How a watcher comes to a channel, gets its first message, and leaves.

import AuctionEvents
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
            serveWaiting(channel, attachment)
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
        case .http, .webSocket: handle.counters.webSockets.add(change)
        case .eventStream: handle.counters.eventStreams.add(change)
        case .longPoll: handle.counters.longPolls.add(change)
        case .subscription: handle.counters.subscriptions.add(change)
        }
    }

    // MARK: First messages

    /// Gives the waiting watchers their first messages and what followed, as far as the attachment goes.
    func serveWaiting(_ channel: Channel, _ attachment: Attachment) {
        guard channel.waiting.count > 0 else { return }
        let footing = attachment.footing
        var served: [(slot: UInt32, decision: Resumption)] = []
        // All move before anything is sent: a send may close its watcher, and with the last one the channel.
        for slot in channel.waiting.removeAll() {
            let cursor = slab[slot].flags.contains(.hasCursor) ? slab[slot].cursor : nil
            let decision =
                channel.topic.kind == .user ? Resumption.resumed : Resumption(cursor: cursor, on: footing)
            if case .later(let needsLog) = decision {
                slab[slot].listPosition = channel.waiting.append(slot)
                requestAttachment(channel, needsLog ? [.state, .log] : .state)
                continue
            }
            let lane = Lane(slab[slot]).rawValue
            slab[slot].phase = .watching
            slab[slot].listPosition = channel.watchers[lane].append(slot)
            served.append((slot, decision))
        }
        // Made on first use; mostly one is.
        var snapshots: [EncodedEvent?] = [nil, nil]
        func snapshot(complete: Bool) -> EncodedEvent {
            let index = complete ? 1 : 0
            let encoded =
                snapshots[index]
                ?? EventEncoder.snapshot(
                    attachment.snapshot, auctionID: channel.topic.id, complete: complete,
                    serverTime: serverTime())
            snapshots[index] = encoded
            return encoded
        }
        for (slot, decision) in served {
            if channel.topic.kind == .user {
                scheduleHeartbeat(slot, isFirst: true)
                openIfStream(slot)
            } else if case .snapshot(let complete) = decision {
                handle.counters.snapshots.add()
                greet(
                    slot, on: channel, snapshot(complete: complete), at: attachment.snapshot.sequence,
                    then: attachment, complete: complete)
            } else {
                let since = slab[slot].cursor
                handle.counters.resumes.add()
                let first = EventEncoder.resumed(
                    since: since, sequence: max(attachment.last, since), auctionID: channel.topic.id,
                    serverTime: serverTime())
                greet(slot, on: channel, first, at: since, then: attachment, complete: true)
            }
        }
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
