// A worker's channels: watchers join and leave, attachments and events come from the hub, and walks bring events to
// the watchers a stretch at a time.

import AuctionEvents
import DequeModule
import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    // MARK: Joining and leaving

    /// Puts a new watcher on an auction; its first message comes at once when this loop can tell.
    /// - Parameter since: the cursor it gave.
    func join(_ slot: UInt32, auctionID: String, since: UInt64?) {
        let channel = channelsByAuction[auctionID] ?? makeChannel(auctionID)
        slab[slot].channel = channel.index
        slab[slot].phase = .awaitingSnapshot
        slab[slot].listPosition = channel.waiting.append(slot)
        if let since {
            slab[slot].cursor = since
            slab[slot].flags.insert(.hasCursor)
        }
        handle.counters.webSocketWatchers.add()
        schedule(slot, seconds: Limits.firstMessageTimeoutSeconds)
        guard let number = channel.number, let snapshot = channel.snapshot,
            since.map({ $0 == channel.last }) ?? (snapshot.sequence >= channel.last && snapshot.state != nil)
        else { return requestAttachment(channel, since == nil ? .state : []) }
        serveWaiting(
            channel,
            Attachment(
                auctionID: auctionID, number: number, snapshot: snapshot, events: [], last: channel.last,
                isThorough: false))
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
        forgetNumber(channel)
        channels[Int(channel.index)] = nil
        freeChannels.append(channel.index)
        channel.pending.removeAll()
        handle.counters.channels.set(channelsByAuction.count)
        _ = shared.hubMailbox.post(.detach(auctionID: channel.auctionID, loop: handle.index))
    }

    /// The hub may have given the number to another auction meanwhile.
    private func forgetNumber(_ channel: Channel) {
        guard let number = channel.number, channelsByNumber[number] === channel else { return }
        channelsByNumber.removeValue(forKey: number)
    }

    private func requestAttachment(_ channel: Channel, _ needs: AttachmentNeeds) {
        if let requested = channel.requested, requested.isSuperset(of: needs) { return }
        channel.requested = (channel.requested ?? []).union(needs)
        _ = shared.hubMailbox.post(.attach(auctionID: channel.auctionID, loop: handle.index, needs: needs))
    }

    /// The gateway watches as many auctions as it may.
    func refuseWaiting(_ auctionID: String) {
        guard let channel = channelsByAuction[auctionID] else { return }
        for slot in Array(channel.waiting.slots) {
            beginClose(slot, CloseCode.tryAgainLater, reason: retryReason())
        }
    }

    // MARK: From the hub

    func attach(_ attachment: Attachment) {
        guard let channel = channelsByAuction[attachment.auctionID] else { return }
        channel.requested = nil
        if channel.number != attachment.number {
            forgetNumber(channel)
            channel.number = attachment.number
            channelsByNumber[attachment.number] = channel
        }
        if channel.snapshot != nil, attachment.last > channel.last { catchUp(channel, attachment) }
        channel.snapshot = attachment.snapshot
        channel.last = max(channel.last, attachment.last)
        serveWaiting(channel, attachment)
    }

    /// This loop missed events of a channel it watches: takes them from the ring, or jumps.
    private func catchUp(_ channel: Channel, _ attachment: Attachment) {
        if !attachment.reaches(channel.last) { jump(channel, to: attachment.snapshot) }
        for event in attachment.events where event.sequence > channel.last { enqueue(event, on: channel) }
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
        if channel.append(event, now: nowMilliseconds) { handle.counters.conflated.add() }
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

    /// How a waiting watcher's first message reads.
    private enum Welcome {
        case snapshot(complete: Bool)
        case resumed
        /// What the loop has does not tell; the hub is asked for more.
        case later(AttachmentNeeds)
    }

    private func welcome(_ slot: UInt32, _ attachment: Attachment) -> Welcome {
        let canSnapshot =
            attachment.snapshot.sequence >= attachment.last
            || attachment.reaches(attachment.snapshot.sequence)
        guard slab[slot].flags.contains(.hasCursor) else {
            return canSnapshot ? .snapshot(complete: true) : .later(.state)
        }
        let cursor = slab[slot].cursor
        // A cursor beyond our last event, but not beyond the state, is ahead of pub/sub only.
        let isAheadOfEventsOnly = cursor > attachment.last && cursor <= attachment.snapshot.sequence
        if attachment.reaches(cursor) || isAheadOfEventsOnly { return .resumed }
        return attachment.isThorough && canSnapshot ? .snapshot(complete: false) : .later([.state, .log])
    }

    /// Gives the waiting watchers their first messages and what followed, as far as the attachment goes.
    private func serveWaiting(_ channel: Channel, _ attachment: Attachment) {
        guard channel.waiting.count > 0 else { return }
        var served: [(slot: UInt32, welcome: Welcome)] = []
        // All move before anything is sent: a send may close its watcher, and with the last one the channel.
        for slot in channel.waiting.removeAll() {
            let welcome = welcome(slot, attachment)
            if case .later(let needs) = welcome {
                slab[slot].listPosition = channel.waiting.append(slot)
                requestAttachment(channel, needs)
                continue
            }
            slab[slot].phase = .watching
            slab[slot].listPosition = channel.watchers.append(slot)
            scheduleHeartbeat(slot, isFirst: true)
            served.append((slot, welcome))
        }
        let snapshots = [true, false].map {
            EventEncoder.snapshot(
                attachment.snapshot, auctionID: channel.auctionID, complete: $0, serverTime: serverTime())
        }
        for (slot, welcome) in served {
            if case .snapshot(let complete) = welcome {
                handle.counters.snapshots.add()
                let from = attachment.snapshot.sequence
                sendFirst(
                    slot, snapshots[complete ? 0 : 1], then: attachment.events.filter { $0.sequence > from })
                slab[slot].cursor = max(attachment.last, from)
            } else {
                let since = slab[slot].cursor
                let upTo = max(attachment.last, since)
                handle.counters.resumes.add()
                let frame = EventEncoder.resumed(
                    since: since, sequence: upTo, auctionID: channel.auctionID, serverTime: serverTime())
                sendFirst(slot, frame, then: attachment.events.filter { $0.sequence > since })
                slab[slot].cursor = upTo
            }
        }
    }

    /// Sends a first message and the events behind it: in one piece while that is small, else through a backlog, where
    /// bids merge.
    private func sendFirst(_ slot: UInt32, _ frame: [UInt8], then events: [EncodedEvent]) {
        handle.counters.deliveries.add(events.count)
        let bytes = events.reduce(frame.count) { $0 + $1.frame.count }
        guard bytes > Limits.replayBytes, !slab[slot].flags.contains(.hasBacklog) else {
            return sendMessage(slot, events.reduce(into: frame) { $0 += $1.frame })
        }
        var backlog = Backlog(frame: frame, sent: 0)
        // Bounded by the log's length; whoever does not take it is closed as slow.
        for event in events { _ = backlog.enqueue(event, losslessLimit: .max) }
        backlogs[slot] = backlog
        noteBacklog(slot)
        flushBacklog(slot)
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
        if channel.walkPosition == 0 { beginWalk(channel) }
        guard let pending = channel.pending.first else { return 1 }
        let event = pending.event
        let start = channel.walkPosition
        let end = start + min(budget, channel.watchers.slots.count - start)
        let delivered = channel.walkFrame.withUnsafeBytes { frame in
            channel.watchers.slots.withUnsafeBufferPointer { slots in
                deliver(
                    frame, first: pending.first, sequence: event.sequence,
                    to: UnsafeBufferPointer(rebasing: slots[start..<end]), records: slab.records,
                    setbacks: &setbacks)
            }
        }
        handle.counters.deliveries.add(delivered)
        handle.counters.deliveredBytes.add(delivered * channel.walkFrame.count)
        let isLast = end >= channel.watchers.slots.count
        channel.walkPosition = isLast ? 0 : end
        handleSetbacks(pending, frame: channel.walkFrame)
        if isLast {
            // Closing the last watcher above may have retired the channel and emptied the queue.
            _ = channel.pending.popFirst()
            channel.watchers.endWalk { slot, position in slab[slot].listPosition = position }
        }
        return max(1, end - start)
    }

    /// Makes the first pending event, merged with what waited behind it, the one that is walked.
    private func beginWalk(_ channel: Channel) {
        handle.counters.conflated.add(channel.mergeWaiting(now: nowMilliseconds))
        guard let pending = channel.pending.first else { return }
        let isMerged = pending.first != pending.event.sequence
        channel.walkFrame =
            isMerged ? EventEncoder.conflated(pending.event, from: pending.first) : pending.event.frame
        channel.watchers.beginWalk()
    }

    /// Handles those that did not take the frame whole. The walk still counts as under way, so places do not move.
    private func handleSetbacks(_ pending: Channel.Pending, frame: [UInt8]) {
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
            case .hasBacklog: queueEvent(setback.slot, event, from: first)
            case .hasSeenPart where slab[setback.slot].flags.contains(.hasBacklog):
                queueEvent(setback.slot, event, from: first)
            case .hasSeenPart:
                sendMessage(
                    setback.slot,
                    first == event.sequence ? event.frame : EventEncoder.conflated(event, from: first))
            case .took(0): beginBacklog(setback.slot, event, from: first)
            case .took(let sent):
                beginBacklog(setback.slot, frame, sent: sent)
                handle.counters.deliveredBytes.add(sent)
            case .failed: break
            }
        }
        list.removeAll(keepingCapacity: true)
        swap(&list, &setbacks)
    }

    func serverTime() -> Timestamp {
        Timestamp(milliseconds: Clock.wallMilliseconds())
    }
}
