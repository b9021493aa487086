// A worker's channels: watchers join and leave, attachments and events come from the hub, and walks bring events to
// the watchers a stretch at a time.

import AuctionEvents
import DequeModule
import Fanout
import Reactor
import Telemetry

extension Worker {
    // MARK: Joining and leaving

    /// Puts a new watcher on an auction; its first message comes at once when this loop knows the auction's state.
    func join(_ slot: UInt32, auctionID: String) {
        let channel = channelsByAuction[auctionID] ?? makeChannel(auctionID)
        slab[slot].channel = channel.index
        slab[slot].phase = .awaitingSnapshot
        slab[slot].listPosition = channel.waiting.append(slot)
        handle.counters.webSocketWatchers.add()
        schedule(slot, seconds: Limits.firstMessageTimeoutSeconds)
        if let snapshot = channel.snapshot, snapshot.sequence >= channel.last {
            serveWaiting(channel, snapshot, following: [])
        } else {
            requestAttachment(channel)
        }
    }

    /// Takes a watcher off its auction, wherever it stands.
    func leaveChannel(_ slot: UInt32) {
        guard slab[slot].channel != ConnectionSlab.none, let channel = channels[Int(slab[slot].channel)]
        else { return }
        let position = slab[slot].listPosition
        let moved =
            slab[slot].phase == .awaitingSnapshot
            ? channel.waiting.remove(at: position) : channel.watchers.remove(at: position)
        if let moved { slab[moved].listPosition = position }
        slab[slot].channel = ConnectionSlab.none
        slab[slot].listPosition = ConnectionSlab.none
        handle.counters.webSocketWatchers.add(-1)
        if channel.isEmpty { retire(channel) }
    }

    private func makeChannel(_ auctionID: String) -> Channel {
        let index = freeChannels.popLast() ?? UInt32(channels.count)
        let channel = Channel(auctionID: auctionID, index: index)
        if Int(index) == channels.count { channels.append(channel) } else { channels[Int(index)] = channel }
        channelsByAuction[auctionID] = channel
        handle.counters.channels.set(channelsByAuction.count)
        return channel
    }

    private func retire(_ channel: Channel) {
        channelsByAuction.removeValue(forKey: channel.auctionID)
        if let number = channel.number { channelsByNumber.removeValue(forKey: number) }
        channels[Int(channel.index)] = nil
        freeChannels.append(channel.index)
        channel.pending.removeAll()
        handle.counters.channels.set(channelsByAuction.count)
        _ = shared.hubMailbox.post(.detach(auctionID: channel.auctionID, loop: handle.index))
    }

    private func requestAttachment(_ channel: Channel) {
        guard !channel.awaitsAttachment else { return }
        channel.awaitsAttachment = true
        _ = shared.hubMailbox.post(.attach(auctionID: channel.auctionID, loop: handle.index))
    }

    /// The gateway watches as many auctions as it may.
    func refuseWaiting(_ auctionID: String) {
        guard let channel = channelsByAuction[auctionID] else { return }
        for slot in Array(channel.waiting.slots) { beginClose(slot, 1013, reason: retryReason()) }
    }

    // MARK: From the hub

    func attach(_ attachment: Attachment) {
        guard let channel = channelsByAuction[attachment.auctionID] else { return }
        channel.awaitsAttachment = false
        if channel.number != attachment.number {
            if let number = channel.number { channelsByNumber.removeValue(forKey: number) }
            channel.number = attachment.number
            channelsByNumber[attachment.number] = channel
        }
        if channel.snapshot != nil, attachment.last > channel.last { catchUp(channel, attachment) }
        channel.snapshot = attachment.snapshot
        channel.last = max(channel.last, attachment.last)
        serveWaiting(channel, attachment.snapshot, following: attachment.ring)
    }

    /// This loop missed events of a channel it watches: takes them from the ring, or jumps.
    private func catchUp(_ channel: Channel, _ attachment: Attachment) {
        if let first = attachment.ring.first?.sequence, first <= channel.last + 1 {
            for event in attachment.ring where event.sequence > channel.last { enqueue(event, on: channel) }
        } else {
            jump(channel, to: Snapshot(sequence: attachment.last, state: attachment.snapshot.state))
        }
    }

    func receive(_ event: EncodedEvent, number: UInt32) {
        guard let channel = channelsByNumber[number], channel.snapshot != nil else { return }
        guard event.sequence == 0 || event.sequence > channel.last else { return }
        enqueue(event, on: channel)
    }

    func jump(number: UInt32, to snapshot: Snapshot) {
        guard let channel = channelsByNumber[number], channel.snapshot != nil else { return }
        jump(channel, to: snapshot)
    }

    private func enqueue(_ event: EncodedEvent, on channel: Channel) {
        if event.sequence != 0 { channel.last = event.sequence }
        guard channel.watchers.count > 0 else { return }
        channel.pending.append(event)
        guard !channel.isQueued else { return }
        channel.isQueued = true
        walks.append(channel)
    }

    /// Tells every watcher by a SNAPSHOT with `complete:false` that events were skipped.
    private func jump(_ channel: Channel, to snapshot: Snapshot) {
        // What was accepted before the jump goes out first; jumps are rare, so this walk does not yield.
        while !channel.pending.isEmpty { walk(channel, budget: .max) }
        channel.snapshot = snapshot
        channel.last = max(channel.last, snapshot.sequence)
        let frame = EventEncoder.snapshot(
            snapshot, auctionID: channel.auctionID, complete: false, serverTime: serverTime())
        for slot in Array(channel.watchers.slots) where slab[slot].cursor < snapshot.sequence {
            slab[slot].cursor = snapshot.sequence
            handle.counters.snapshots.add()
            sendMessage(slot, frame)
        }
    }

    /// Gives every waiting watcher its first message, and what followed the snapshot.
    private func serveWaiting(_ channel: Channel, _ snapshot: Snapshot, following ring: [EncodedEvent]) {
        guard channel.waiting.count > 0 else { return }
        let frame = EventEncoder.snapshot(
            snapshot, auctionID: channel.auctionID, complete: true, serverTime: serverTime())
        let served = channel.waiting.removeAll()
        // All move before anything is sent: a send may close its watcher, and with the last one the channel.
        for slot in served {
            slab[slot].phase = .watching
            slab[slot].cursor = max(channel.last, snapshot.sequence)
            slab[slot].listPosition = channel.watchers.append(slot)
            scheduleHeartbeat(slot, isFirst: true)
        }
        for slot in served {
            let generation = slab[slot].generation
            handle.counters.snapshots.add()
            sendMessage(slot, frame)
            for event in ring where event.sequence > snapshot.sequence {
                guard slab.isCurrent(slot, generation: generation), slab[slot].phase == .watching else {
                    break
                }
                sendEvent(slot, event)
            }
        }
    }

    private func sendEvent(_ slot: UInt32, _ event: EncodedEvent) {
        if slab[slot].flags.contains(.hasBacklog) {
            queueEvent(slot, event)
        } else {
            sendMessage(slot, event.frame)
        }
        handle.counters.deliveries.add()
    }

    // MARK: Walking

    /// Goes on with the walks, a stretch of each in turn, up to the turn's budget.
    func runWalks() {
        var budget = Limits.sendsPerTurn
        while budget > 0, let channel = walks.popFirst() {
            budget -= walk(channel, budget: min(budget, Limits.walkChunk))
            if channel.pending.isEmpty {
                channel.isQueued = false
            } else {
                walks.append(channel)
            }
        }
    }

    /// Walks the channel's first pending event over at most `budget` places of the list; returns the places used,
    /// at least 1.
    @discardableResult
    private func walk(_ channel: Channel, budget: Int) -> Int {
        guard let event = channel.pending.first else { return 1 }
        if channel.walkPosition == 0 { channel.watchers.beginWalk() }
        let start = channel.walkPosition
        let end = start + min(budget, channel.watchers.slots.count - start)
        let delivered = event.frame.withUnsafeBytes { frame in
            channel.watchers.slots.withUnsafeBufferPointer { slots in
                deliver(
                    frame, sequence: event.sequence, to: UnsafeBufferPointer(rebasing: slots[start..<end]),
                    records: slab.records, setbacks: &setbacks)
            }
        }
        handle.counters.deliveries.add(delivered)
        handle.counters.deliveredBytes.add(delivered * event.frame.count)
        let isLast = end >= channel.watchers.slots.count
        channel.walkPosition = isLast ? 0 : end
        handleSetbacks(event)
        if isLast {
            // Closing the last watcher above may have retired the channel and emptied the queue.
            _ = channel.pending.popFirst()
            channel.watchers.endWalk { slot, position in slab[slot].listPosition = position }
        }
        return max(1, end - start)
    }

    /// Handles those that did not take the frame whole. The walk still counts as under way, so places do not move.
    private func handleSetbacks(_ event: EncodedEvent) {
        guard !setbacks.isEmpty else { return }
        var list: ContiguousArray<Setback> = []
        swap(&list, &setbacks)
        for setback in list {
            switch setback.reason {
            case .hasBacklog:
                queueEvent(setback.slot, event)
                handle.counters.deliveries.add()
            case .took(0):
                beginBacklog(setback.slot, event)
                handle.counters.deliveries.add()
            case .took(let sent):
                beginBacklog(setback.slot, event.frame, sent: sent)
                handle.counters.deliveries.add()
                handle.counters.deliveredBytes.add(sent)
            case .failed: closeNow(setback.slot)
            }
        }
        list.removeAll(keepingCapacity: true)
        swap(&list, &setbacks)
    }

    func serverTime() -> Timestamp {
        Timestamp(milliseconds: Clock.wallMilliseconds())
    }
}
