// Long-poll: a request that is answered when something comes after its cursor, or when its time is over.

import DequeModule
import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Makes a request a long-poll.
    /// - Parameter timeout: seconds, 1…60.
    func openPoll(_ slot: UInt32, fields: HTTPFields, timeout: Int) {
        slab[slot].transport = .longPoll
        openRequests[slot] = OpenRequest(fields: fields, deadlineTick: tick(afterSeconds: timeout))
    }

    /// Answers a poll that has just been given its position: at once when there is something to tell, later
    /// otherwise.
    func greetPoll(
        _ slot: UInt32, on channel: Channel, _ first: EncodedEvent, at position: UInt64,
        then events: [EncodedEvent], complete: Bool
    ) {
        let isSnapshot = first.type == "SNAPSHOT"
        guard isSnapshot || !events.isEmpty || channel.isOver(at: position) else {
            slab[slot].cursor = position
            let deadline = openRequests[slot]?.deadlineTick ?? nowTick
            return timers.schedule(slot, at: deadline)
        }
        let replay = Replay(events, maximumBytes: Limits.replayBytes)
        handle.counters.deliveries.add(replay.entries.count)
        answerPoll(
            slot, on: channel, sequence: replay.entries.last?.event.sequence ?? position, complete: complete,
            events: (isSnapshot ? [Array(first.json)] : []) + replay.entries.map(Self.json))
    }

    /// Answers a poll that waits, with what is being walked and what stands behind it.
    func answerPollFromWalk(_ slot: UInt32, on channel: Channel) {
        var sequence = slab[slot].cursor
        var events: [[UInt8]] = []
        var bytes = 0
        var isComplete = true
        for pending in channel.pending where pending.event.treatment != .droppable {
            let event = pending.event
            // A snapshot that declares a jump comes first in its answer.
            guard !event.isJump || events.isEmpty else { break }
            if event.isJump { isComplete = false }
            guard event.sequence == 0 || event.sequence > sequence else { continue }
            guard events.isEmpty || bytes + event.frame.count <= Limits.replayBytes else { break }
            let first = event.sequence == 0 ? 0 : max(pending.first, sequence + 1)
            events.append(Self.json((event, first)))
            bytes += event.frame.count
            if event.sequence != 0 { sequence = event.sequence }
        }
        answerPoll(slot, on: channel, sequence: sequence, complete: isComplete, events: events)
    }

    private static func json(_ entry: (event: EncodedEvent, first: UInt64)) -> [UInt8] {
        entry.event.isConflatable && entry.first != entry.event.sequence
            ? EventEncoder.conflatedJSON(entry.event, from: entry.first) : Array(entry.event.json)
    }

    /// Answers a poll; the connection is then free for the next request.
    /// - Parameter sequence: the client's next cursor.
    func answerPoll(
        _ slot: UInt32, on channel: Channel, sequence: UInt64, complete: Bool, events: [[UInt8]]
    ) {
        let body = EventEncoder.poll(
            auctionID: channel.topic.id, sequence: sequence, complete: complete,
            ended: channel.isOver(at: sequence), events: events)
        answerRequest(slot, HTTPResponse(.ok, fields: [("Content-Type", "application/json")], body: body))
    }

    /// A poll's time is over.
    func pollTimedOut(_ slot: UInt32) {
        let isServed = slab[slot].phase == .watching
        let isOver = nowTick >= openRequests[slot]?.deadlineTick ?? 0
        // With a cursor there is an answer that is true although nothing is known: nothing came.
        if isServed || isOver && slab[slot].flags.contains(.hasCursor),
            let channel = channels[Int(slab[slot].channel)]
        {
            answerPoll(slot, on: channel, sequence: slab[slot].cursor, complete: true, events: [])
        } else {
            handle.counters.timeouts.add()
            refusePoll(slot, retryMilliseconds: retryMilliseconds())
        }
    }

    func refusePoll(_ slot: UInt32, retryMilliseconds: Int?) {
        let seconds = ((retryMilliseconds ?? 0) + 999) / 1_000
        answerRequest(
            slot,
            .error(
                .serviceUnavailable, "UNAVAILABLE", "come back later",
                fields: [("Retry-After", "\(seconds)")]))
    }

    /// Answers a live request that was kept waiting, and goes on with what the client sent meanwhile.
    func answerRequest(_ slot: UInt32, _ response: HTTPResponse) {
        leaveChannel(slot)
        if slab[slot].flags.contains(.expires) {
            slab[slot].flags.remove(.expires)
            expiries.cancel(slot)
        }
        var response = response
        response.fields +=
            [("Cache-Control", "no-store")] + (openRequests.removeValue(forKey: slot)?.fields ?? [])
        slab[slot].phase = .readingHead
        slab[slot].transport = .http
        let generation = slab[slot].generation
        respond(slot, response, keepAlive: slab[slot].flags.contains(.keepsAlive) && drainStartedAt == nil)
        guard slab.isCurrent(slot, generation: generation), slab[slot].flags.contains(.hasInput),
            slab[slot].phase == .readingHead
        else { return }
        keptInput.append(token(slot))
    }
}
