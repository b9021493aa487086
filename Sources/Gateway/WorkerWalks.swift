// A worker's walks: they bring a channel's pending events to its watchers, a stretch at a time.

import DequeModule
import Fanout
import Telemetry

extension Worker {
    /// Goes on with the walks, a stretch of each in turn, up to the turn's budget.
    func runWalks() {
        var budget = Limits.sendsPerTurn
        while budget > 0, let channel = walks.popFirst() {
            budget -= walk(channel, budget: min(budget, Limits.walkChunk))
            if channel.pending.isEmpty {
                channel.isQueued = false
                // Gives the memory of a burst back.
                channel.pending = []
            } else if channel.isHeld(now: nowMilliseconds) {
                channel.isQueued = false
                holdForWindow(channel)
            } else {
                walks.append(channel)
            }
        }
    }

    /// Lets a channel's pending bids wait until its window (`conflate-ms`) closes.
    func holdForWindow(_ channel: Channel) {
        guard !channel.isWindowed else { return }
        channel.isWindowed = true
        // Nearly in order already: windows are all of one length.
        var index = windows.count
        while index > 0, windows[index - 1].end > channel.windowEnd { index -= 1 }
        windows.insert((channel.windowEnd, channel), at: index)
    }

    /// Puts the channels whose window has closed in the line of walks.
    func closeWindows() {
        while let (end, channel) = windows.first, nowMilliseconds >= end {
            windows.removeFirst()
            channel.isWindowed = false
            guard !channel.isQueued, !channel.pending.isEmpty else { continue }
            // A lossless event may have ended that window early, and a bid opened the next.
            if channel.isHeld(now: nowMilliseconds) {
                holdForWindow(channel)
            } else {
                channel.isQueued = true
                walks.append(channel)
            }
        }
    }

    /// Walks the channel's first pending event over at most `budget` places of its lists; returns the places used, at
    /// least 1.
    @discardableResult
    func walk(_ channel: Channel, budget: Int) -> Int {
        if !channel.isWalking { beginWalk(channel) }
        guard let pending = channel.pending.first else { return 1 }
        var used = 0
        while used < budget, channel.isWalking {
            let lane = channel.walkLane
            if channel.walkPosition == 0 { enterLane(channel, pending) }
            let start = channel.walkPosition
            let end = start + min(budget - used, channel.watchers[lane].slots.count - start)
            if lane == Lane.individuals.rawValue {
                deliverIndividually(pending, on: channel, start..<end)
            } else {
                deliverAlike(pending, on: channel, lane, start..<end)
            }
            used += end - start
            channel.walkPosition = end
            if end >= channel.watchers[lane].slots.count { leaveLane(channel) }
        }
        if !channel.isWalking { endWalk(channel, pending) }
        return max(1, used)
    }

    /// Makes the first pending event, merged with what waited behind it, the one that is walked.
    private func beginWalk(_ channel: Channel) {
        handle.counters.conflated.add(channel.mergeWaiting(now: nowMilliseconds))
        guard let pending = channel.pending.first else { return }
        if pending.event.isConflatable, configuration.conflateMilliseconds > 0 {
            channel.windowEnd = nowMilliseconds + Int64(configuration.conflateMilliseconds)
        }
        channel.isWalking = true
        channel.walkLane = 0
        channel.walkPosition = 0
    }

    private func enterLane(_ channel: Channel, _ pending: Channel.Pending) {
        guard !channel.watchers[channel.walkLane].slots.isEmpty else { return }
        switch Lane(rawValue: channel.walkLane) {
        case .frames?: channel.walkBytes = EventEncoder.frame(pending.event, from: pending.first)
        case .streams?: channel.walkBytes = EventEncoder.stream(pending.event, from: pending.first)
        case .individuals?, nil: break
        }
        channel.watchers[channel.walkLane].beginWalk()
    }

    private func leaveLane(_ channel: Channel) {
        // An empty lane was never entered.
        if channel.walkPosition > 0 {
            channel.watchers[channel.walkLane].endWalk { slot, position in slab[slot].listPosition = position
            }
        }
        channel.walkPosition = 0
        channel.walkLane += 1
        channel.isWalking = channel.walkLane < Lane.count
    }

    private func endWalk(_ channel: Channel, _ pending: Channel.Pending) {
        channel.walkBytes = []
        // Closing the last watcher may have retired the channel and emptied the queue.
        _ = channel.pending.popFirst()
        guard pending.event.endsAuction else { return }
        for slot in channel.watchers.flatMap(\.slots) { scheduleDeparture(slot, of: channel) }
    }

    // MARK: Lanes

    /// Sends the same bytes to a stretch of a lane.
    private func deliverAlike(
        _ pending: Channel.Pending, on channel: Channel, _ lane: Int, _ range: Range<Int>
    ) {
        let delivered = channel.walkBytes.withUnsafeBytes { bytes in
            channel.watchers[lane].slots.withUnsafeBufferPointer { slots in
                deliver(
                    bytes, first: pending.first, sequence: pending.event.sequence,
                    to: UnsafeBufferPointer(rebasing: slots[range]), records: slab.records,
                    setbacks: &setbacks)
            }
        }
        handle.counters.deliveries.add(delivered)
        handle.counters.deliveredBytes.add(delivered * channel.walkBytes.count)
        handleSetbacks(pending, bytes: channel.walkBytes)
    }

    /// Handles those that did not take the bytes whole. The walk still counts as under way, so places do not move.
    private func handleSetbacks(_ pending: Channel.Pending, bytes: [UInt8]) {
        guard !setbacks.isEmpty else { return }
        let event = pending.event
        var list: ContiguousArray<Setback> = []
        swap(&list, &setbacks)
        for setback in list {
            let first = event.sequence == 0 ? 0 : max(pending.first, setback.cursor + 1)
            if case .failed = setback.reason {
                closeNow(setback.slot)
                continue
            }
            handle.counters.deliveries.add()
            switch setback.reason {
            case .hasBacklog, .hasSeenPart: send(event, from: first, to: setback.slot)
            case .took(0): queueEvent(setback.slot, event, from: first)
            case .took(let sent):
                keepRest(setback.slot, bytes, sent: sent)
                handle.counters.deliveredBytes.add(sent)
            case .failed: break
            }
        }
        list.removeAll(keepingCapacity: true)
        swap(&list, &setbacks)
    }

    private func deliverIndividually(_ pending: Channel.Pending, on channel: Channel, _ range: Range<Int>) {
        let event = pending.event
        for position in range {
            let slot = channel.watchers[Lane.individuals.rawValue].slots[position]
            guard slot != SubscriberList.tombstone else { continue }
            let cursor = slab[slot].cursor
            guard event.sequence == 0 || cursor < event.sequence else { continue }
            if slab[slot].transport == .longPoll {
                guard event.treatment != .droppable else { continue }
                handle.counters.deliveries.add()
                answerPollFromWalk(slot, on: channel)
                continue
            }
            if event.sequence != 0 { slab[slot].cursor = event.sequence }
            handle.counters.deliveries.add()
            send(event, from: event.sequence == 0 ? 0 : max(pending.first, cursor + 1), to: slot)
        }
    }
}
