// Long-poll: a request that is answered when something comes after its cursor, or when its time is over.

import DequeModule
import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Wire

/// The part of a live request that is needed until the head of its answer is sent.
struct OpenRequest {
    /// The fields that the answer carries because of the request's origin.
    let fields: HTTPFields
    /// A long-poll's time, in timer ticks.
    var deadlineTick: UInt32 = 0
}

extension Watching {
    /// Makes a request a long-poll.
    /// - Parameter timeout: how many seconds the client waits, 1…60.
    func openPoll(_ slot: UInt32, fields: HTTPFields, timeout: Int) {
        connections.transition(slot, to: .opening)
        connections.setTransport(slot, .longPoll)
        openRequests[slot] = OpenRequest(fields: fields, deadlineTick: context.tick(afterSeconds: timeout))
    }

    /// Answers a poll that has just been given its position: at once when there is something to tell, later
    /// otherwise.
    func greetPoll(
        _ slot: UInt32, on channel: Channel, _ first: EncodedEvent, at position: UInt64,
        then events: [EncodedEvent], complete: Bool
    ) {
        let isSnapshot = first.type == "SNAPSHOT"
        let isAlone = connections[slot].transport == .longPoll
        // A poll over many auctions goes on for the others when one is over.
        guard isSnapshot || !events.isEmpty || isAlone && channel.isOver(at: position) else {
            connections.setCursor(slot, position)
            guard isAlone else { return }
            return connections.schedule(slot, at: openRequests[slot]?.deadlineTick ?? context.nowTick)
        }
        let replay = Replay(events, maximumBytes: Limits.replayBytes)
        context.counters.deliveries.add(replay.entries.count)
        answerPoll(
            slot, on: channel, sequence: replay.entries.last?.event.sequence ?? position, complete: complete,
            events: (isSnapshot ? [Array(first.json)] : []) + replay.entries.map(Self.json))
    }

    /// Answers a waiting poll with the events being walked and the pending events behind them.
    func answerPollFromWalk(_ slot: UInt32, on channel: Channel) {
        var sequence = connections[slot].cursor
        var events: [[UInt8]] = []
        var bytes = 0
        var isComplete = true
        for pending in channel.pending where pending.event.isForPolls {
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

    /// Answers a poll; the connection is then free for the next request. The answer for one of many auctions
    /// is kept for the answer to all of them.
    /// - Parameter sequence: the client's next cursor.
    func answerPoll(
        _ slot: UInt32, on channel: Channel, sequence: UInt64, complete: Bool, events: [[UInt8]]
    ) {
        // A gateway that knows nothing of the auction yet cannot say that its Redis delivers.
        let body = EventEncoder.poll(
            auctionID: channel.topic.id, sequence: sequence, complete: complete,
            live: channel.isLive && channel.snapshot != nil, ended: channel.isOver(at: sequence),
            events: events)
        guard connections[slot].transport == .longPoll else { return keepAnswer(body, of: slot) }
        answerRequest(slot, HTTPResponse(.ok, fields: [("Content-Type", "application/json")], body: body))
    }

    /// A poll's time is over.
    func pollTimedOut(_ slot: UInt32) {
        let isServed = connections[slot].phase == .watching
        let isOver = context.nowTick >= openRequests[slot]?.deadlineTick ?? 0
        // A poll with a cursor has a true answer even when nothing is known: nothing came.
        if isServed || isOver && connections[slot].flags.contains(.hasCursor),
            let channel = channel(of: slot)
        {
            answerPoll(
                slot, on: channel, sequence: connections[slot].cursor, complete: true, events: [])
        } else {
            context.counters.timeouts.add()
            refusePoll(slot, retryMilliseconds: context.retryMilliseconds())
        }
    }

    /// Answers a poll that cannot be served now.
    func refusePoll(_ slot: UInt32, retryMilliseconds: Int?) {
        answerRequest(slot, .comeBack(afterMilliseconds: retryMilliseconds ?? 0))
    }

    /// Answers a live request that was kept waiting, and goes on with what the client sent meanwhile.
    func answerRequest(_ slot: UInt32, _ response: HTTPResponse) {
        leaveAll(slot)
        connections.cancelExpiry(slot)
        var response = response
        response.fields +=
            [("Cache-Control", "no-store")] + (openRequests.removeValue(forKey: slot)?.fields ?? [])
        connections.transition(slot, to: .readingHead)
        connections.setTransport(slot, .http)
        connections.unmark(slot, .isAnswerOpen)
        let keepsAlive = connections[slot].flags.contains(.keepsAlive) && !context.isDraining
        respond(response, to: slot, keepsAlive: keepsAlive)
        if connections[slot].flags.contains(.hasInput), !connections[slot].flags.contains(.isEnding) {
            connections.readAgain(slot)
        }
    }

    /// Answers a request; the connection is then idle, or ends when the answer is out.
    func respond(_ response: HTTPResponse, to slot: UInt32, keepsAlive: Bool, withBody: Bool = true) {
        let isKept = output.respond(response, over: slot, keepsAlive: keepsAlive, withBody: withBody)
        guard isKept else { return connections.end(slot, .afterFlush) }
        connections.mark(slot, .isIdle)
        connections.schedule(slot, seconds: context.configuration.keepAliveSeconds)
    }
}
