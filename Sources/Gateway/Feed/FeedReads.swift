// The feed's reads from Redis: states in batches, logs one by one, a bounded number at a time. The machines
// decide what is read, and what follows from it.

import AuctionEvents
import DequeModule
import Fanout
import LiveProtocol
import RedisLink
import Telemetry

/// The reads of one server that are queued or under way, from one loss of its link to the next. A late answer
/// is counted here, and not among the reads that were started after the loss.
final class FeedReads {
    /// States that are to be read.
    var states: Deque<FeedRead> = []
    var statesInFlight = 0
    /// State reads that are repeated, in order of when they are due.
    var stateRetries: Deque<(at: Int64, reads: [FeedRead])> = []
    /// Logs that are to be read whole, for a resume.
    var histories: Deque<FeedRead> = []
    var historyRetries: Deque<(at: Int64, read: FeedRead)> = []
    var logsInFlight = 0

    var underWay: Int { statesInFlight + logsInFlight }
    var waiting: Int { states.count + stateRetries.count + histories.count + historyRetries.count }
    var hasRetries: Bool { !stateRetries.isEmpty || !historyRetries.isEmpty }
}

extension AuctionFeed {
    // MARK: States

    func queueStateRead(_ channel: FeedChannel, isRetry: Bool) {
        if isRetry {
            let at = now + Limits.stateRetryMilliseconds
            channel.home.reads.stateRetries.append((at, [FeedRead(channel)]))
        } else {
            channel.home.reads.states.append(FeedRead(channel))
        }
    }

    /// True when the read still concerns the channel: the channel is open, and has neither lost its link nor
    /// moved since the read began.
    private func isDue(_ read: FeedRead) -> Bool { isOpen(read.channel) && read.isCurrent }

    /// Sends the queued state reads. One read covers many auctions, and few reads are under way at a time. In
    /// a cluster, where auctions share no slot, each is a read of its own.
    func readStates() {
        for server in servers.values where server.isUp {
            while let retry = server.reads.stateRetries.first, retry.at <= now {
                server.reads.stateRetries.removeFirst()
                server.reads.states.append(contentsOf: retry.reads)
            }
            let (batch, most) =
                server.isClusterNode
                ? (1, Limits.stateReadsInFlight * Limits.stateReadBatch)
                : (Limits.stateReadBatch, Limits.stateReadsInFlight)
            while !server.reads.states.isEmpty, server.reads.statesInFlight < most {
                let count = min(batch, server.reads.states.count)
                let due = Array(server.reads.states.prefix(count)).filter(isDue)
                server.reads.states.removeFirst(count)
                readStates(due, at: server)
            }
        }
    }

    private func readStates(_ batch: [FeedRead], at server: FeedServer) {
        guard let first = batch.first else { return }
        let reads = server.reads
        reads.statesInFlight += 1
        counters.stateReads.add()
        ask(first.channel, ["MGET"] + batch.map { RedisKeys.state($0.channel.topic.id) }) {
            [unowned self] answer in
            // The link was lost: everything is read anew over the next one.
            if case .lost = answer { return }
            reads.statesInFlight -= 1
            switch answer {
            case .reply(.array(let values)) where values.count == batch.count:
                for (read, value) in zip(batch, values) where isDue(read) {
                    takeState(read.channel, value.bytes)
                }
            case .refused(let refusal) where refusal.concernsNamesOnly:
                // One key of the batch is to blame. Halving finds it.
                counters.refusedReads.add()
                guard batch.count > 1 else {
                    if isDue(first) { refuse(first.channel, refusal) }
                    return
                }
                let middle = batch.count / 2
                readStates(Array(batch[..<middle]), at: server)
                readStates(Array(batch[middle...]), at: server)
            case .refused, .reply, .lost:
                // For example LOADING after a restart. The probe decides whether the link is of any use.
                counters.refusedReads.add()
                reads.stateRetries.append((now + Limits.stateRetryMilliseconds, batch))
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
        for channel in repairing.values where channel.home.isUp {
            let mayReadLog = channel.home.reads.logsInFlight < Limits.logReadsInFlight
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
    /// given up or has moved.
    private func readEntries(
        _ channel: FeedChannel, _ name: String, _ range: [String], take: @escaping ([EncodedEvent]?) -> Void
    ) {
        let read = FeedRead(channel)
        let reads = channel.home.reads
        reads.logsInFlight += 1
        counters.logReads.add()
        ask(channel, [name, RedisKeys.log(channel.topic.id)] + range) { [unowned self] answer in
            if case .lost = answer { return }
            reads.logsInFlight -= 1
            guard isDue(read) else { return }
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
                counters.rejected.add(reason)
                return nil
            case .success(let envelope): return EventEncoder.event(json.span, envelope)
            }
        }
    }

    // MARK: History

    /// Starts as many of the queued reads of whole logs as may be under way.
    func readHistories() {
        for server in servers.values {
            while let (at, read) = server.reads.historyRetries.first, at <= now {
                server.reads.historyRetries.removeFirst()
                server.reads.histories.append(read)
            }
            while server.reads.logsInFlight < Limits.logReadsInFlight,
                let read = server.reads.histories.popFirst()
            {
                if isDue(read), read.channel.machine.isReadingHistory { readHistory(read.channel) }
            }
        }
    }

    private func readHistory(_ channel: FeedChannel) {
        let range = ["+", "-", "COUNT", "\(Limits.logReadEntries)"]
        readEntries(channel, "XREVRANGE", range) { [unowned self] events in
            guard let events else {
                // Watchers that resume wait until the read is repeated.
                let at = now + Limits.stateRetryMilliseconds
                return channel.home.reads.historyRetries.append((at, FeedRead(channel)))
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
