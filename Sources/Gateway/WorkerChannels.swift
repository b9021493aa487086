// A worker's channels: made with the first watcher of a topic and given up with the last, fed by the hub.

import AuctionEvents
import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    // MARK: Life

    func makeChannel(_ topic: Topic) -> Channel {
        let index = freeChannels.popLast() ?? UInt32(channels.count)
        let channel = Channel(topic: topic, index: index)
        if Int(index) == channels.count { channels.append(channel) } else { channels[Int(index)] = channel }
        channelsByTopic[topic] = channel
        handle.counters.channels.set(channelsByTopic.count)
        return channel
    }

    func retire(_ channel: Channel) {
        channelsByTopic.removeValue(forKey: channel.topic)
        forgetNumber(channel)
        channels[Int(channel.index)] = nil
        freeChannels.append(channel.index)
        channel.pending.removeAll()
        handle.counters.channels.set(channelsByTopic.count)
        _ = shared.hubMailbox.post(.detach(channel.topic, loop: handle.index))
    }

    /// The hub may have given the number to another topic meanwhile.
    private func forgetNumber(_ channel: Channel) {
        guard let number = channel.number, channelsByNumber[number] === channel else { return }
        channelsByNumber.removeValue(forKey: number)
    }

    func requestAttachment(_ channel: Channel, _ needs: AttachmentNeeds) {
        if let requested = channel.requested, requested.isSuperset(of: needs) { return }
        channel.requested = (channel.requested ?? []).union(needs)
        _ = shared.hubMailbox.post(.attach(channel.topic, loop: handle.index, needs: needs))
    }

    /// Tells the hub of the channels whose number of watchers changed.
    func reportViewers() {
        guard configuration.viewersSeconds > 0, nowMilliseconds >= nextViewersReportAt else { return }
        nextViewersReportAt = nowMilliseconds + Limits.viewersReportMilliseconds
        var changes: [LocalViewers] = []
        for channel in channelsByTopic.values
        where channel.number != nil && channel.viewers != channel.reportedViewers
            && channel.topic.kind == .auction
        {
            channel.reportedViewers = channel.viewers
            changes.append(LocalViewers(topic: channel.topic, count: channel.viewers))
        }
        guard !changes.isEmpty else { return }
        _ = shared.hubMailbox.post(.viewers(changes, loop: handle.index))
    }

    // MARK: From the hub

    /// The gateway watches as many topics as it may.
    func refuseWaiting(_ topic: Topic) {
        guard let channel = channelsByTopic[topic] else { return }
        channel.requested = nil
        for slot in Array(channel.waiting.slots) {
            dismiss(
                slot, CloseCode.tryAgainLater, "this gateway watches as many auctions as it may",
                retryMilliseconds: retryMilliseconds())
        }
    }

    func attach(_ attachment: Attachment) {
        guard let channel = channelsByTopic[attachment.topic] else { return }
        channel.requested = nil
        if channel.number != attachment.number {
            forgetNumber(channel)
            channel.number = attachment.number
            channelsByNumber[attachment.number] = channel
            // Another number is another channel of the hub's, which has not been told.
            channel.reportedViewers = 0
        }
        if channel.snapshot != nil, attachment.last > channel.last { catchUp(channel, attachment) }
        channel.snapshot = attachment.snapshot
        channel.last = max(channel.last, attachment.last)
        if attachment.isEnded { channel.isEnded = true }
        serveWaiting(channel, attachment)
    }

    /// This loop missed events of a channel it watches: takes them from the ring, or jumps.
    private func catchUp(_ channel: Channel, _ attachment: Attachment) {
        if !attachment.footing.reaches(channel.last) { jump(channel, to: attachment.snapshot) }
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

    /// Puts an event in the line of those to walk.
    private func enqueue(_ event: EncodedEvent, on channel: Channel) {
        if event.sequence != 0 { channel.last = event.sequence }
        if event.endsAuction { channel.isEnded = true }
        guard channel.hasWatchers else { return }
        if channel.append(event, now: nowMilliseconds) { handle.counters.conflated.add() }
        guard !channel.isQueued else { return }
        if channel.isHeld(now: nowMilliseconds) { return holdForWindow(channel) }
        channel.isQueued = true
        walks.append(channel)
    }

    /// Tells every watcher by a SNAPSHOT with `complete:false` that events were skipped.
    private func jump(_ channel: Channel, to snapshot: Snapshot) {
        // What was accepted before the jump goes out first; jumps are rare, so this walk does not yield.
        while !channel.pending.isEmpty { walk(channel, budget: .max) }
        channel.snapshot = snapshot
        channel.last = max(channel.last, snapshot.sequence)
        if snapshot.isEnded { channel.isEnded = true }
        let message = EventEncoder.snapshot(
            snapshot, auctionID: channel.topic.id, complete: false, serverTime: serverTime())
        for slot in channel.watchers.flatMap(\.slots) where slab[slot].cursor < snapshot.sequence {
            slab[slot].cursor = snapshot.sequence
            handle.counters.snapshots.add()
            if channel.isEnded { scheduleDeparture(slot, of: channel) }
            if slab[slot].transport == .longPoll {
                answerPoll(
                    slot, on: channel, sequence: snapshot.sequence, complete: false,
                    events: [Array(message.json)])
            } else {
                send(message, to: slot)
            }
        }
    }

    func serverTime() -> Timestamp {
        Timestamp(milliseconds: Clock.wallMilliseconds())
    }
}
