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

    /// The topic cannot be watched: its watchers are sent away. Whoever comes meanwhile asks anew.
    func refuse(_ topic: Topic, _ reason: RefusalReason) {
        guard let channel = channelsByTopic[topic] else { return }
        channel.requested = nil
        forgetNumber(channel)
        channel.number = nil
        channel.snapshot = nil
        channel.endGreeting()
        sendAway(watchers(of: channel), for: .refusal(reason), on: topic, milliseconds: 0)
    }

    /// Slot and generation of all who watch or wait.
    func watchers(of channel: Channel) -> [UInt64] {
        ([channel.waiting] + channel.watchers).flatMap { list in
            list.slots.filter { $0 != SubscriberList.tombstone }.map(token)
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
        greetWaiting(channel, attachment)
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

    /// Tells every watcher by a SNAPSHOT with `complete:false`, behind what was accepted before, that events
    /// were skipped.
    private func jump(_ channel: Channel, to snapshot: Snapshot) {
        channel.snapshot = snapshot
        guard snapshot.sequence > channel.last else { return }
        enqueue(
            EventEncoder.jump(to: snapshot, auctionID: channel.topic.id, serverTime: serverTime()),
            on: channel)
    }

    /// Puts an event in the line of those to walk.
    private func enqueue(_ event: EncodedEvent, on channel: Channel) {
        if event.sequence != 0 { channel.last = event.sequence }
        if event.endsAuction { channel.isEnded = true }
        channel.noteForGreeting(event)
        guard channel.hasWatchers else { return }
        if channel.append(event, now: nowMilliseconds) { handle.counters.conflated.add() }
        guard !channel.isQueued else { return }
        if channel.isHeld(now: nowMilliseconds) { return holdForWindow(channel) }
        channel.isQueued = true
        walks.append(channel)
    }

    func serverTime() -> Timestamp {
        Timestamp(milliseconds: Clock.wallMilliseconds())
    }
}
