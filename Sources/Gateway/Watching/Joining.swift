// How a watcher comes to a channel and how it leaves.

import Fanout
import LiveProtocol
import Telemetry

extension Watching {
    /// Puts a new watcher on a topic. If this loop knows enough, the first message goes out at once.
    /// - Parameter since: the cursor that it gave.
    func join(_ slot: UInt32, _ topic: Topic, since: UInt64?) {
        let channel = channel(of: topic) ?? makeChannel(topic)
        connections.setChannel(slot, channel.index)
        // A subscription's record begins in this phase.
        if connections[slot].phase != .joining { connections.transition(slot, to: .joining) }
        connections.setListPosition(slot, channel.waiting.append(slot))
        connections.setCursor(slot, since ?? 0)
        if since != nil {
            connections.mark(slot, .hasCursor)
        } else {
            connections.unmark(slot, .hasCursor)
        }
        countWatcher(slot, 1)
        context.counters.waiting.add()
        scheduleFirstMessage(slot)
        if let attachment = channel.ownAttachment(since: since) {
            var greeting = Greeting(attachment)
            serve(slot, on: channel, &greeting)
        } else {
            requestAttachment(channel, since == nil && topic.kind == .auction ? .state : [])
        }
        // A stream without a cursor is answered 200 in any case, so its head need not wait.
        guard since == nil, connections[slot].phase == .joining else { return }
        openIfStream(slot)
    }

    /// How long a watcher waits for its first message. A poll with a cursor has its own time, if that is
    /// shorter.
    private func scheduleFirstMessage(_ slot: UInt32) {
        // A poll over many auctions has one time for all of them.
        guard connections[slot].transport != .subscription || !isPoll(slot) else { return }
        var deadline = context.tick(afterSeconds: Limits.firstMessageTimeoutSeconds)
        if connections[slot].transport == .longPoll, connections[slot].flags.contains(.hasCursor) {
            deadline = min(deadline, openRequests[slot]?.deadlineTick ?? deadline)
        }
        connections.schedule(slot, at: deadline)
    }

    /// Moves a watcher from the waiting list to the watchers that receive events.
    func beginWatching(_ slot: UInt32, on channel: Channel) {
        let position = connections[slot].listPosition
        if let moved = channel.waiting.remove(at: position) { connections.setListPosition(moved, position) }
        connections.transition(slot, to: .watching)
        context.counters.waiting.add(-1)
        let group = DeliveryGroup(connections[slot]).rawValue
        connections.setListPosition(slot, channel.watchers[group].append(slot))
    }

    // MARK: Leaving

    /// Takes a connection off everything that it watches.
    func leaveAll(_ slot: UInt32) {
        leaveChannel(slot)
        if !manyPolls.isEmpty { manyPolls.removeValue(forKey: slot) }
        guard !subscriptionSets.isEmpty, let set = subscriptionSets.removeValue(forKey: slot) else { return }
        countWatcher(slot, -1)
        for subscription in set.subscriptions.values { free(subscription: subscription) }
    }

    /// Forgets a connection that is being freed.
    func forget(_ slot: UInt32) {
        leaveAll(slot)
        if connections[slot].transport != .webSocket { openRequests.removeValue(forKey: slot) }
    }

    /// Takes a watcher off its topic, wherever it stands.
    func leaveChannel(_ slot: UInt32) {
        guard let channel = channel(of: slot) else { return }
        let position = connections[slot].listPosition
        let group = DeliveryGroup(connections[slot]).rawValue
        let isWaiting = connections[slot].phase == .joining
        if isWaiting { context.counters.waiting.add(-1) }
        let moved =
            isWaiting
            ? channel.waiting.remove(at: position) : channel.watchers[group].remove(at: position)
        if let moved { connections.setListPosition(moved, position) }
        connections.setChannel(slot, ConnectionSlab.none)
        connections.setListPosition(slot, ConnectionSlab.none)
        countWatcher(slot, -1)
        if channel.isEmpty { retire(channel) }
    }

    /// Counts a watcher that came (1) or left (−1).
    func countWatcher(_ slot: UInt32, _ change: Int) {
        switch connections[slot].transport {
        case .http: preconditionFailure("a connection without a watch is no watcher")
        case .webSocket: context.counters.webSockets.add(change)
        case .eventStream: context.counters.eventStreams.add(change)
        case .longPoll: context.counters.longPolls.add(change)
        case .subscription: context.counters.subscriptions.add(change)
        }
    }

    /// Sets when a watcher of an auction that is over is told to go: a while after the end, spread over the
    /// drain's length. Polls end by themselves. A connection with many auctions stays for the others.
    func scheduleDeparture(_ slot: UInt32, of channel: Channel) {
        guard channel.topic.kind == .auction, !connections[slot].flags.contains(.isDeparting) else { return }
        switch connections[slot].transport {
        case .webSocket, .eventStream: break
        case .http, .longPoll, .subscription: return
        }
        let spread = Int64(context.configuration.drainSeconds) * 1_000 / Limits.tickMilliseconds
        let extra = UInt32(Int64.random(in: 0...spread, using: &context.generator))
        connections.scheduleDeparture(
            slot, at: context.tick(afterSeconds: Limits.secondsAfterEnd) &+ extra)
    }
}
