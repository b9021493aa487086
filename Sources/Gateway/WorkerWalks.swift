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

    /// Lets a channel's pending bids wait until its window closes.
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

    /// Walks the channel's first pending events over at most `budget` places of its lists; returns the places
    /// used, at least 1.
    @discardableResult
    func walk(_ channel: Channel, budget: Int) -> Int {
        if !channel.isWalking { beginWalk(channel) }
        guard channel.isWalking else { return 1 }
        var used = 0
        while used < budget, channel.walkLane < Lane.count {
            let lane = channel.walkLane
            if channel.walkPosition == 0 { enterLane(channel) }
            let start = channel.walkPosition
            let end = start + min(budget - used, channel.watchers[lane].slots.count - start)
            if lane == Lane.individuals.rawValue {
                deliverIndividually(on: channel, start..<end)
            } else {
                deliverAlike(on: channel, lane, start..<end)
            }
            if channel.walked.last?.event.endsAuction == true {
                scheduleDepartures(of: channel, lane, start..<end)
            }
            used += end - start
            channel.walkPosition = end
            if end >= channel.watchers[lane].slots.count { leaveLane(channel) }
        }
        if channel.walkLane >= Lane.count { channel.endWalk(now: nowMilliseconds) }
        return max(1, used)
    }

    private func beginWalk(_ channel: Channel) {
        let opensWindow = configuration.conflateMilliseconds > 0
        handle.counters.conflated.add(
            channel.beginWalk(bytes: Limits.walkBytes, now: nowMilliseconds, opensWindow: opensWindow))
        guard let last = channel.walked.last else { return }
        if last.event.isConflatable, opensWindow {
            channel.windowEnd = nowMilliseconds + Int64(configuration.conflateMilliseconds)
        }
    }

    private func enterLane(_ channel: Channel) {
        guard !channel.watchers[channel.walkLane].slots.isEmpty else { return }
        var bytes: [UInt8] = []
        var ends: [Int] = []
        for pending in channel.walked {
            let form = form(pending, channel.walkLane)
            // A single event's bytes are shared, not copied.
            if bytes.isEmpty { bytes = form } else { bytes += form }
            ends.append(bytes.count)
        }
        channel.walkBytes = bytes
        channel.walkEnds = ends
        channel.watchers[channel.walkLane].beginWalk()
    }

    private func form(_ pending: Channel.Pending, _ lane: Int) -> [UInt8] {
        switch lane {
        case Lane.streams.rawValue: EventEncoder.stream(pending.event, from: pending.first)
        case Lane.deflatedFrames.rawValue:
            EventEncoder.deflatedFrame(pending.event, from: pending.first, deflater)
        default: EventEncoder.frame(pending.event, from: pending.first)
        }
    }

    private func leaveLane(_ channel: Channel) {
        // An empty lane was never entered.
        if channel.walkPosition > 0 {
            channel.watchers[channel.walkLane].endWalk { slot, position in slab[slot].listPosition = position
            }
        }
        channel.walkPosition = 0
        channel.walkLane += 1
    }

    private func scheduleDepartures(of channel: Channel, _ lane: Int, _ range: Range<Int>) {
        for position in range {
            let slot = channel.watchers[lane].slots[position]
            if slot != SubscriberList.tombstone { scheduleDeparture(slot, of: channel) }
        }
    }

    // MARK: Lanes

    /// Sends the same bytes to a stretch of a lane.
    private func deliverAlike(on channel: Channel, _ lane: Int, _ range: Range<Int>) {
        guard let first = channel.walked.first, let last = channel.walked.last else { return }
        // SAFETY: nothing that the walk calls changes the channel's bytes or its list, or keeps the pointers.
        let delivered = channel.walkBytes.withUnsafeBytes { bytes in
            channel.watchers[lane].slots.withUnsafeBufferPointer { slots in
                deliver(
                    bytes, first: first.first, sequence: last.event.sequence,
                    to: UnsafeBufferPointer(rebasing: slots[range]), records: slab.records,
                    setbacks: &setbacks)
            }
        }
        handle.counters.deliveries.add(delivered * channel.walkCount)
        handle.counters.deliveredBytes.add(delivered * channel.walkBytes.count)
        handleSetbacks(on: channel, lane)
    }

    /// Handles those that did not take the bytes whole. The walk still counts as under way, so places do not
    /// move.
    private func handleSetbacks(on channel: Channel, _ lane: Int) {
        guard !setbacks.isEmpty else { return }
        var list: ContiguousArray<Setback> = []
        swap(&list, &setbacks)
        let walked = Array(channel.walked)
        let ends = channel.walkEnds
        for setback in list {
            switch setback.reason {
            case .failed: closeNow(setback.slot)
            case .needsCare where !slab[setback.slot].flags.contains(.hasBacklog):
                handle.counters.deliveries.add(walked.count)
                sendBytes(setback.slot, channel.walkBytes)
            case .needsCare, .hasSeenPart: send(walked, after: setback.cursor, to: setback.slot)
            case .took(let sent):
                handle.counters.deliveredBytes.add(sent)
                // The event of which a part is out, or else the first of which nothing is.
                let index = ends.firstIndex { $0 > sent } ?? ends.count
                let start = index > 0 ? ends[index - 1] : 0
                handle.counters.deliveries.add(index)
                guard start < sent else {
                    queue(walked[index...], after: setback.cursor, to: setback.slot)
                    continue
                }
                handle.counters.deliveries.add()
                keepRest(setback.slot, form(walked[index], lane), sent: sent - start)
                queue(walked[(index + 1)...], after: setback.cursor, to: setback.slot)
            }
        }
        list.removeAll(keepingCapacity: true)
        swap(&list, &setbacks)
    }

    /// Sends those of the events that a watcher whose cursor was `cursor` has not seen, one by one.
    private func send(_ walked: [Channel.Pending], after cursor: UInt64, to slot: UInt32) {
        let generation = slab[slot].generation
        for pending in walked where slab.isCurrent(slot, generation: generation) {
            let event = pending.event
            guard event.sequence == 0 || event.sequence > cursor else { continue }
            handle.counters.deliveries.add()
            send(event, from: event.sequence == 0 ? 0 : max(pending.first, cursor + 1), to: slot)
        }
    }

    private func queue(_ rest: ArraySlice<Channel.Pending>, after cursor: UInt64, to slot: UInt32) {
        let generation = slab[slot].generation
        for pending in rest where slab.isCurrent(slot, generation: generation) {
            let event = pending.event
            handle.counters.deliveries.add()
            queueEvent(slot, event, from: event.sequence == 0 ? 0 : max(pending.first, cursor + 1))
        }
    }

    private func deliverIndividually(on channel: Channel, _ range: Range<Int>) {
        guard let first = channel.walked.first, let last = channel.walked.last else { return }
        let walked = Array(channel.walked)
        for position in range {
            let slot = channel.watchers[Lane.individuals.rawValue].slots[position]
            guard slot != SubscriberList.tombstone else { continue }
            let cursor = slab[slot].cursor
            guard last.event.sequence == 0 || cursor < last.event.sequence else { continue }
            if slab[slot].transport == .longPoll {
                guard last.event.treatment != .droppable else { continue }
                handle.counters.deliveries.add()
                answerPollFromWalk(slot, on: channel)
                continue
            }
            if last.event.sequence != 0 { slab[slot].cursor = last.event.sequence }
            let connection = connection(of: slot)
            let takesFrames =
                slab[connection].transport == .webSocket && slab[connection].deflateBits == 0
                && !slab[connection].flags.contains(.hasBacklog)
            if walked.count > 1, takesFrames, cursor < first.first {
                handle.counters.deliveries.add(walked.count)
                sendBytes(connection, channel.walkBytes)
            } else {
                send(walked, after: cursor, to: slot)
            }
        }
    }
}
