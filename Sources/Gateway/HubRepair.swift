// How the hub keeps each auction whole: it reads states for joiners and after a reconnect, fills holes in the
// sequence from Redis' log, and gives a hole up, with a declared jump, when the log cannot fill it in time.

import AuctionEvents
import DequeModule
import Fanout
import Logging
import RedisLink
import Telemetry

extension Hub {
    // MARK: Order

    /// Takes an event from pub/sub or the log.
    func accept(_ event: EncodedEvent, on channel: HubChannel) {
        guard event.sequence != 0 else { return distribute(event, on: channel) }
        switch channel.sequence.offer(event, sequence: event.sequence) {
        case .deliver:
            distribute(event, on: channel)
            deliverHeld(channel)
        case .duplicate: counters.duplicates.add()
        case .held:
            if channel.phase == .live { beginRepair(channel, target: event.sequence - 1) }
        case .overflow: giveUp(channel)
        }
    }

    private func deliverHeld(_ channel: HubChannel) {
        while let event = channel.sequence.takeNextHeld() { distribute(event, on: channel) }
        guard let repair = channel.repair, !channel.sequence.hasHole, channel.last >= repair.target else {
            return
        }
        endRepair(channel)
        counters.holesFilled.add()
    }

    // MARK: States

    func queueStateRead(_ channel: HubChannel) {
        guard !channel.isReadQueued, links[channel.link].isUp else { return }
        channel.isReadQueued = true
        if channel.stateMissingSince == nil {
            stateQueues[channel.link].append(channel)
        } else {
            stateRetries.append((now + Limits.stateRetryMilliseconds, channel.link, [channel]))
        }
    }

    /// Sends reads for what is queued, many auctions in one, few at a time.
    func readStates() {
        while let retry = stateRetries.first, retry.at <= now {
            stateRetries.removeFirst()
            stateQueues[retry.link].append(contentsOf: retry.channels.filter { isOpen($0) })
        }
        for link in links.indices {
            while !stateQueues[link].isEmpty, stateReadsInFlight[link] < Limits.stateReadsInFlight {
                let count = min(Limits.stateReadBatch, stateQueues[link].count)
                let batch = Array(stateQueues[link].prefix(count))
                stateQueues[link].removeFirst(count)
                readStates(of: batch, over: link)
            }
        }
    }

    private func readStates(of batch: [HubChannel], over link: Int) {
        stateReadsInFlight[link] += 1
        counters.stateReads.add()
        links[link].command(["MGET"] + batch.map { RedisKeys.state($0.topic.id) }) { [unowned self] answer in
            // The link was lost: everything is read anew over the next one.
            if case .lost = answer { return }
            stateReadsInFlight[link] -= 1
            switch answer {
            case .reply(.array(let values)) where values.count == batch.count:
                for (channel, value) in zip(batch, values) where isOpen(channel) {
                    takeState(channel, value.bytes)
                }
            case .refused(let refusal) where refusal.concernsNamesOnly:
                // One key of the batch is to blame. Halving finds it.
                counters.refusedReads.add()
                guard batch.count > 1 else {
                    if isOpen(batch[0]) { refuse(batch[0], refusal) }
                    return
                }
                let middle = batch.count / 2
                readStates(of: Array(batch[..<middle]), over: link)
                readStates(of: Array(batch[middle...]), over: link)
            case .refused, .reply, .lost:
                // Such as LOADING after a restart. Whether the link is of any use is the probe's to say.
                counters.refusedReads.add()
                stateRetries.append((now + Limits.stateRetryMilliseconds, link, batch))
            }
        }
    }

    private func takeState(_ channel: HubChannel, _ stored: [UInt8]?) {
        channel.isReadQueued = false
        noteServed(channel)
        var state: Snapshot?
        if let stored {
            state = EventEncoder.snapshot(fromStored: stored)
            if state == nil { counters.rejectedStates.add() }
        }
        if channel.isJumping { return finishJump(channel, state) }
        let isFirst = channel.sequence.last == nil
        let isReconnect = channel.phase == .reading && !isFirst
        channel.phase = .live
        if isFirst { channel.sequence.establish(state?.sequence ?? 0) }
        // Before what was held: whoever waits is shown this state, and then each event.
        adopt(state, on: channel)
        deliverHeld(channel)
        if isReconnect, let state, state.sequence > channel.last {
            beginRepair(channel, target: state.sequence)
        } else if let first = channel.sequence.firstHeld {
            beginRepair(channel, target: first - 1)
        }
        answerAttaches(channel)
    }

    /// Makes `state` the snapshot for joiners, unless the one at hand is newer.
    private func adopt(_ state: Snapshot?, on channel: HubChannel) {
        if let state, state.sequence >= channel.snapshot?.sequence ?? 0 { channel.snapshot = state }
        var standsAtLast = channel.snapshot?.state == nil
        if !standsAtLast, !channel.canServe {
            // Redis lost the state and the relay will write it again, which is worth waiting for.
            let since = channel.stateMissingSince ?? now
            channel.stateMissingSince = since
            standsAtLast = now - since >= Limits.stateWaitMilliseconds
        }
        if channel.canServe { channel.stateMissingSince = nil }
        // Published without a state, or with one that the ring does not reach: the last sequence number seen
        // stands.
        if standsAtLast {
            channel.stateMissingSince = nil
            channel.snapshot = Snapshot(
                sequence: channel.last, state: channel.snapshot?.state,
                isEnded: channel.snapshot?.isEnded == true)
        }
    }

    // MARK: Holes

    private func beginRepair(_ channel: HubChannel, target: UInt64) {
        guard channel.repair == nil, !channel.isJumping else { return }
        counters.holes.add()
        channel.repair = HubChannel.Repair(
            deadline: now + Limits.holeMilliseconds, nextReadAt: now, target: target)
        repairing[channel.number] = channel
    }

    private func endRepair(_ channel: HubChannel) {
        channel.repair = nil
        repairing.removeValue(forKey: channel.number)
    }

    /// Reads logs and gives up holes as their times come.
    func continueRepairs() {
        for channel in repairing.values {
            guard let repair = channel.repair, links[channel.link].isUp else { continue }
            if now >= repair.deadline {
                giveUp(channel)
            } else if now >= repair.nextReadAt, !repair.isReading,
                logReadsInFlight[channel.link] < Limits.logReadsInFlight
            {
                readLog(channel)
            }
        }
    }

    private func readLog(_ channel: HubChannel) {
        let link = channel.link
        logReadsInFlight[link] += 1
        channel.repair?.isReading = true
        counters.logReads.add()
        let command = [
            "XRANGE", RedisKeys.log(channel.topic.id), "\(channel.last + 1)", "+", "COUNT",
            "\(Limits.logReadEntries)",
        ]
        links[link].command(command) { [unowned self] answer in
            if case .lost = answer { return }
            logReadsInFlight[link] -= 1
            guard isOpen(channel) else { return }
            channel.repair?.isReading = false
            channel.repair?.nextReadAt = now + Limits.holeRetryMilliseconds
            switch answer {
            case .reply(.array(let entries)): takeLog(channel, entries)
            case .refused(let refusal) where refusal.concernsNamesOnly:
                counters.refusedReads.add()
                refuse(channel, refusal)
            // Read again until the hole's time is over.
            case .refused, .reply, .lost: counters.refusedReads.add()
            }
        }
    }

    private func takeLog(_ channel: HubChannel, _ entries: [RedisReply]) {
        for event in events(in: entries, of: channel) where event.sequence > channel.last {
            accept(event, on: channel)
        }
    }

    /// Entries are `[id, [field, value, …]]`, the event under field `e`.
    private func events(in entries: [RedisReply], of channel: HubChannel) -> [EncodedEvent] {
        entries.compactMap { entry in
            guard let parts = entry.array, parts.count == 2, let fields = parts[1].array,
                let name = fields.firstIndex(where: { $0.bytes == Array("e".utf8) }), name + 1 < fields.count,
                let json = fields[name + 1].bytes
            else { return nil }
            switch EventEnvelope.scan(json.span, auctionID: channel.topic.id) {
            case .failure(let reason):
                counters.withRejected(reason) { $0.add() }
                return nil
            case .success(let envelope): return EventEncoder.event(json.span, envelope)
            }
        }
    }

    // MARK: History

    /// Lets rings go back to their capacity.
    func narrowRings() {
        while let (until, channel) = widened.first, now >= until {
            widened.removeFirst()
            guard isOpen(channel), channel.widenedUntil == until else { continue }
            narrow(channel)
        }
    }

    private func narrow(_ channel: HubChannel) {
        channel.ring.narrow()
        noteHistory(channel)
        channel.widenedUntil = nil
    }

    /// Starts as many of the queued reads as may be under way.
    func readHistories() {
        while let (at, channel) = historyRetries.first, at <= now {
            historyRetries.removeFirst()
            historyQueue.append(channel)
        }
        for _ in 0..<historyQueue.count {
            guard let channel = historyQueue.popFirst() else { return }
            guard isOpen(channel), channel.isReadingHistory else { continue }
            if logReadsInFlight[channel.link] < Limits.logReadsInFlight {
                startReadingHistory(channel)
            } else {
                historyQueue.append(channel)
            }
        }
    }

    /// Reads the whole log for those who resume from before the ring, and answers them: one read, however
    /// many.
    func readHistory(_ channel: HubChannel) {
        guard !channel.isReadingHistory, links[channel.link].isUp else { return }
        channel.isReadingHistory = true
        historyQueue.append(channel)
    }

    private func startReadingHistory(_ channel: HubChannel) {
        let link = channel.link
        logReadsInFlight[link] += 1
        counters.logReads.add()
        let command = [
            "XREVRANGE", RedisKeys.log(channel.topic.id), "+", "-", "COUNT", "\(Limits.logReadEntries)",
        ]
        links[link].command(command) { [unowned self] answer in
            if case .lost = answer { return }
            logReadsInFlight[link] -= 1
            guard isOpen(channel) else { return }
            switch answer {
            case .reply(.array(let entries)):
                channel.isReadingHistory = false
                takeHistory(channel, entries)
            case .refused(let refusal) where refusal.concernsNamesOnly:
                counters.refusedReads.add()
                refuse(channel, refusal)
            case .refused, .reply, .lost:
                // No answer at all, which must not pass for an empty log: those who resume wait.
                counters.refusedReads.add()
                historyRetries.append((now + Limits.stateRetryMilliseconds, channel))
            }
        }
    }

    private func takeHistory(_ channel: HubChannel, _ entries: [RedisReply]) {
        // Newest first: takes what joins on to the ring, and stops at a gap.
        let recent = recentEvents(channel)
        var next = recent.first?.sequence ?? channel.last + 1
        var older: [EncodedEvent] = []
        for event in events(in: entries, of: channel)
        where event.sequence != 0 && event.sequence + 1 == next {
            older.append(event)
            next = event.sequence
        }
        // Kept for a while: a crowd that resumes costs one read.
        channel.ring.widen(with: older.reversed())
        noteHistory(channel)
        let until = now + Limits.widenedMilliseconds
        channel.widenedUntil = until
        channel.widenedFrom = channel.ring.first
        widened.append((until, channel))
        let loops = channel.loggingLoops
        channel.loggingLoops = 0
        sendAttachment(channel, to: loops, events: recentEvents(channel), isThorough: true)
        if history.isOverLimit { narrow(channel) }
    }

    /// The hole stays: asks for the state to jump to.
    private func giveUp(_ channel: HubChannel) {
        endRepair(channel)
        guard !channel.isJumping else { return }
        channel.isJumping = true
        if links[channel.link].isUp { queueStateRead(channel) }
    }

    private func finishJump(_ channel: HubChannel, _ state: Snapshot?) {
        channel.isJumping = false
        channel.phase = .live
        let firstHeld = channel.sequence.firstHeld
        let floor = max(channel.last, firstHeld.map { $0 - 1 } ?? 0)
        let target = max(floor, state?.sequence ?? 0)
        guard target > channel.last else {
            channel.sequence.establish(target)
            deliverHeld(channel)
            adopt(state, on: channel)
            return answerAttaches(channel)
        }
        // A state older than the hole's end still is the best there is to show.
        let shown = state?.sequence ?? 0 >= channel.snapshot?.sequence ?? 0 ? state : channel.snapshot
        let snapshot = Snapshot(sequence: target, state: shown?.state, isEnded: shown?.isEnded == true)
        counters.jumps.add()
        channel.sequence.establish(target)
        channel.ring.removeAll()
        noteHistory(channel)
        channel.widenedUntil = nil
        channel.snapshot = snapshot
        distributeJump(snapshot, on: channel)
        deliverHeld(channel)
        answerAttaches(channel)
        if let first = channel.sequence.firstHeld { beginRepair(channel, target: first - 1) }
    }
}
