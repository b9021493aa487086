// The feed's reads from Redis: states in batches, logs one by one, a bounded number at a time. The machines
// decide what is read, and what follows from it.

import AuctionEvents
import DequeModule
import Fanout
import LiveProtocol
import RedisLink
import Telemetry

/// The reads of one link that are queued or under way.
struct FeedReads {
    /// Channels whose state is to be read.
    var states: Deque<FeedChannel> = []
    var statesInFlight = 0
    /// State reads that are repeated, in order of when they are due.
    var stateRetries: Deque<(at: Int64, channels: [FeedChannel])> = []
    /// Channels whose whole log is to be read for a resume.
    var histories: Deque<FeedChannel> = []
    var historyRetries: Deque<(at: Int64, channel: FeedChannel)> = []
    var logsInFlight = 0

    var hasRetries: Bool { !stateRetries.isEmpty || !historyRetries.isEmpty }
}

extension AuctionFeed {
    // MARK: States

    func queueStateRead(_ channel: FeedChannel, isRetry: Bool) {
        if isRetry {
            reads[channel.link].stateRetries.append((now + Limits.stateRetryMilliseconds, [channel]))
        } else {
            reads[channel.link].states.append(channel)
        }
    }

    /// Sends the queued state reads. One read covers many auctions, and few reads are under way at a time.
    func readStates() {
        for link in links.indices {
            while let retry = reads[link].stateRetries.first, retry.at <= now {
                reads[link].stateRetries.removeFirst()
                reads[link].states.append(contentsOf: retry.channels.filter(isOpen))
            }
            while !reads[link].states.isEmpty, reads[link].statesInFlight < Limits.stateReadsInFlight {
                let count = min(Limits.stateReadBatch, reads[link].states.count)
                let batch = Array(reads[link].states.prefix(count))
                reads[link].states.removeFirst(count)
                readStates(of: batch, over: link)
            }
        }
    }

    private func readStates(of batch: [FeedChannel], over link: Int) {
        reads[link].statesInFlight += 1
        counters.stateReads.add()
        links[link].command(["MGET"] + batch.map { RedisKeys.state($0.topic.id) }) { [unowned self] answer in
            // The link was lost: everything is read anew over the next one.
            if case .lost = answer { return }
            reads[link].statesInFlight -= 1
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
                // For example LOADING after a restart. The probe decides whether the link is of any use.
                counters.refusedReads.add()
                reads[link].stateRetries.append((now + Limits.stateRetryMilliseconds, batch))
            }
        }
    }

    private func takeState(_ channel: FeedChannel, _ stored: [UInt8]?) {
        noteServed(channel)
        var state: Snapshot?
        if let stored {
            state = EventEncoder.snapshot(fromStored: stored)
            if state == nil { counters.rejectedStates.add() }
        }
        perform(channel) { $0.stateRead(state, now: now, &$1) }
    }

    // MARK: Gaps

    /// Continues the repair of every gap: reads the log again, or gives the gap up.
    func continueRepairs() {
        for channel in repairing.values where links[channel.link].isUp {
            let mayReadLog = reads[channel.link].logsInFlight < Limits.logReadsInFlight
            perform(channel) { $0.tick(now: now, mayReadLog: mayReadLog, &$1) }
        }
    }

    func readLog(_ channel: FeedChannel, after sequence: UInt64) {
        let range = ["\(sequence + 1)", "+", "COUNT", "\(Limits.logReadEntries)"]
        readEntries(channel, "XRANGE", range) { [unowned self] events in
            perform(channel) { $0.logRead(events, now: now, &$1) }
        }
    }

    /// Reads entries of a channel's log. `take` gets the events, or `nil` when Redis did not answer the
    /// question. It is not called when the link is lost, when Redis refuses the key, or when the channel was
    /// given up.
    private func readEntries(
        _ channel: FeedChannel, _ name: String, _ range: [String], take: @escaping ([EncodedEvent]?) -> Void
    ) {
        let link = channel.link
        reads[link].logsInFlight += 1
        counters.logReads.add()
        links[link].command([name, RedisKeys.log(channel.topic.id)] + range) { [unowned self] answer in
            if case .lost = answer { return }
            reads[link].logsInFlight -= 1
            guard isOpen(channel) else { return }
            switch answer {
            case .reply(.array(let entries)): take(events(in: entries, of: channel))
            case .refused(let refusal) where refusal.concernsNamesOnly:
                counters.refusedReads.add()
                refuse(channel, refusal)
            case .refused, .reply, .lost:
                // Redis gave no answer, which must not be mistaken for an empty log.
                counters.refusedReads.add()
                take(nil)
            }
        }
    }

    /// Entries are `[id, [field, value, …]]`, the event under field `e`.
    private func events(in entries: [RedisReply], of channel: FeedChannel) -> [EncodedEvent] {
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

    /// Starts as many of the queued reads of whole logs as may be under way.
    func readHistories() {
        for link in links.indices {
            while let (at, channel) = reads[link].historyRetries.first, at <= now {
                reads[link].historyRetries.removeFirst()
                reads[link].histories.append(channel)
            }
            while reads[link].logsInFlight < Limits.logReadsInFlight,
                let channel = reads[link].histories.popFirst()
            {
                if isOpen(channel), channel.machine.isReadingHistory { readHistory(channel) }
            }
        }
    }

    private func readHistory(_ channel: FeedChannel) {
        let range = ["+", "-", "COUNT", "\(Limits.logReadEntries)"]
        readEntries(channel, "XREVRANGE", range) { [unowned self] events in
            guard let events else {
                // Watchers that resume wait until the read is repeated.
                let at = now + Limits.stateRetryMilliseconds
                return reads[channel.link].historyRetries.append((at, channel))
            }
            perform(channel) { $0.historyRead(events, now: now, &$1) }
            if let until = channel.machine.widenedUntil { widened.append((until, channel)) }
            if history.isOverLimit { narrow(channel) }
        }
    }

    /// Narrows widened rings back to their capacity when their time is over.
    func narrowRings() {
        while let (until, channel) = widened.first, now >= until {
            widened.removeFirst()
            guard isOpen(channel), channel.machine.widenedUntil == until else { continue }
            narrow(channel)
        }
    }

    private func narrow(_ channel: FeedChannel) {
        channel.machine.narrow()
        account(channel)
    }

    /// Drops from the rings what exceeds the limit after a new event of `channel`.
    func keepHistoryWithinLimit(after channel: FeedChannel) {
        channel.accountedBytes = channel.machine.historyBytes
        history.noteEvent(channel.number, bytes: channel.accountedBytes, now: now)
        while let verdict = history.verdict(
            after: channel.number, events: channel.machine.historyCount, now: now)
        {
            switch verdict {
            case .all(let number):
                guard let other = channels[Int(number)] else { return }
                other.machine.clearHistory()
                account(other)
            case .excess(let number, let bytes):
                guard let other = channels[Int(number)] else { return }
                while other.machine.historyBytes > bytes { other.machine.dropOldestEvent() }
                account(other)
            case .own:
                channel.machine.dropOldestEvent()
                account(channel)
            }
        }
        counters.historyBytes.set(history.total)
    }

    /// Tells the budget that a ring has changed for another reason than a new event.
    func account(_ channel: FeedChannel) {
        channel.accountedBytes = channel.machine.historyBytes
        history.set(channel.number, bytes: channel.accountedBytes)
        counters.historyBytes.set(history.total)
    }
}
