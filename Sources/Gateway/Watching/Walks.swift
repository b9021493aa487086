// Walks: they bring a channel's pending events to its watchers, a stretch at a time.

import DequeModule
import Fanout
import LiveProtocol
import Reactor
import Telemetry

extension Watching {
    /// Continues the walks, a stretch of each in turn, up to the turn's budget.
    func runWalks() {
        guard !walks.isEmpty else { return }
        walksBegan = Clock.monotonicMicroseconds()
        defer { noteFinishedWalks() }
        var budget = Limits.sendsPerTurn
        while budget > 0, let channel = walks.popFirst() {
            budget -= walk(channel, budget: min(budget, Limits.walkChunk))
            if channel.pending.isEmpty {
                channel.isQueued = false
                // Returns the memory of a burst.
                channel.dropPending()
            } else if channel.awaitsWindow(now: context.nowMilliseconds) {
                channel.isQueued = false
                waitForWindow(channel)
            } else {
                walks.append(channel)
            }
        }
    }

    /// Lets a channel's pending bids wait until its window closes.
    func waitForWindow(_ channel: Channel) {
        guard !channel.isWindowed else { return }
        channel.isWindowed = true
        // The queue is nearly in order already, because all windows have one length.
        var index = windows.count
        while index > 0, windows[index - 1].end > channel.windowEnd { index -= 1 }
        windows.insert((channel.windowEnd, channel), at: index)
    }

    /// Queues the channels whose window has closed for their walks.
    func closeWindows() {
        while let (end, channel) = windows.first, context.nowMilliseconds >= end {
            windows.removeFirst()
            channel.isWindowed = false
            guard !channel.isQueued, !channel.pending.isEmpty else { continue }
            // A lossless event may have ended that window early, and a bid opened the next.
            if channel.awaitsWindow(now: context.nowMilliseconds) {
                waitForWindow(channel)
            } else {
                channel.isQueued = true
                walks.append(channel)
            }
        }
    }

    /// Walks the channel's first pending events over at most `budget` places of its lists; returns the places
    /// used, at least 1.
    private func walk(_ channel: Channel, budget: Int) -> Int {
        if channel.walkCount == 0 {
            context.counters.conflated.add(
                .late,
                channel.beginWalk(
                    bytes: Limits.walkBytes, now: context.nowMilliseconds,
                    window: Int64(context.configuration.conflateMilliseconds)))
            if let event = channel.walked.first?.event, event.receivedAt > 0 {
                context.counters.firstSends.add(microseconds: walksBegan - event.receivedAt)
            }
        }
        var used = 0
        while used < budget {
            guard let stretch = channel.nextStretch(budget: budget - used) else {
                if let event = channel.walked.first?.event, event.receivedAt > 0 {
                    finishedWalks.append(event)
                }
                for pending in channel.walked where pending.event.isTraced {
                    tracedEvents.append(
                        TracedEvent(event: pending.event, topic: channel.topic, watchers: channel.viewers))
                }
                channel.endWalk(now: context.nowMilliseconds)
                break
            }
            if stretch.beginsGroup { encode(for: stretch.group, on: channel) }
            if stretch.group == .individuals {
                deliverIndividually(on: channel, stretch.places)
            } else {
                deliverAlike(on: channel, stretch.group, stretch.places)
            }
            if channel.walked.last?.event.endsAuction == true { scheduleDepartures(of: channel, stretch) }
            channel.endStretch(stretch, moved: notePosition)
            used += stretch.places.count
        }
        return max(1, used)
    }

    /// Measures the walks that ended in this turn, all at one reading of the clocks. A walk's first event has
    /// waited for longest.
    private func noteFinishedWalks() {
        guard !finishedWalks.isEmpty || !tracedEvents.isEmpty else { return }
        let now = Clock.monotonicMicroseconds()
        let wall = Clock.wallMilliseconds()
        for event in finishedWalks {
            context.counters.lastSends.add(microseconds: now - event.receivedAt)
            guard event.publishedAt > 0 else { continue }
            context.counters.eventAges.add(microseconds: (wall - event.publishedAt) * 1_000)
        }
        finishedWalks.removeAll(keepingCapacity: finishedWalks.count <= Limits.keptCapacity)
        for traced in tracedEvents { tell(of: traced, now: now) }
        tracedEvents = []
    }

    /// Makes the bytes that the walk sends to a group.
    private func encode(for group: DeliveryGroup, on channel: Channel) {
        var bytes: [UInt8] = []
        var ends: [Int] = []
        for pending in channel.walked {
            let form = output.encode(pending.event, from: pending.first, for: group)
            // A single event's bytes are shared, not copied.
            if bytes.isEmpty { bytes = form } else { bytes += form }
            ends.append(bytes.count)
        }
        channel.walkBytes = bytes
        channel.walkEnds = ends
    }

    private func scheduleDepartures(of channel: Channel, _ stretch: Channel.Stretch) {
        let slots = channel.watchers[stretch.group.rawValue].slots
        for slot in slots[stretch.places] where slot != SubscriberList.tombstone {
            scheduleDeparture(slot, of: channel)
        }
    }

    // MARK: Delivery

    /// Sends the same bytes to a stretch of a group.
    private func deliverAlike(on channel: Channel, _ group: DeliveryGroup, _ range: Range<Int>) {
        guard let first = channel.walked.first, let last = channel.walked.last else { return }
        // SAFETY: nothing that the walk calls changes the channel's bytes or its list, or keeps the pointers.
        let delivered = channel.walkBytes.withUnsafeBytes { bytes in
            channel.watchers[group.rawValue].slots.withUnsafeBufferPointer { slots in
                deliver(
                    bytes, first: first.first, sequence: last.event.sequence,
                    to: UnsafeBufferPointer(rebasing: slots[range]), records: connections.records,
                    incomplete: &incompleteSends)
            }
        }
        context.counters.deliveries.add(delivered * channel.walkCount)
        context.counters.deliveredBytes.add(ByteCarrier(group), delivered * channel.walkBytes.count)
        completeSends(on: channel, group)
    }

    private func deliverIndividually(on channel: Channel, _ range: Range<Int>) {
        guard let first = channel.walked.first, let last = channel.walked.last else { return }
        let walked = Array(channel.walked)
        for position in range {
            let slot = channel.watchers[DeliveryGroup.individuals.rawValue].slots[position]
            guard slot != SubscriberList.tombstone, !connections[slot].flags.contains(.isEnding) else {
                continue
            }
            let cursor = connections[slot].cursor
            guard last.event.sequence == 0 || cursor < last.event.sequence else { continue }
            if isPoll(slot) {
                guard last.event.isForPolls else { continue }
                context.counters.deliveries.add()
                answerPollFromWalk(slot, on: channel)
                continue
            }
            if last.event.sequence != 0 { connections.setCursor(slot, last.event.sequence) }
            let connection = connections.connection(of: slot)
            let takesFrames =
                connections[connection].transport == .webSocket && connections[connection].deflateBits == 0
                && connections[connection].flags.isDisjoint(with: [.hasBacklog, .isEnding])
            if walked.count > 1, takesFrames, cursor < first.first {
                context.counters.deliveries.add(walked.count)
                connections.settle(output.send(channel.walkBytes, over: connection), of: slot)
            } else {
                send(walked, after: cursor, to: slot)
            }
        }
    }
}
