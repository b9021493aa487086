// A long-poll over many auctions: a connection whose subscriptions are polls. Each auction that has something
// leaves its answer here, and at the end of the turn all of them are answered together.

import Fanout
import LiveProtocol
import Telemetry
import Wire

struct ManyPoll {
    /// The answers of the auctions that have something.
    var parts: [[UInt8]] = []
    /// How many auctions without a cursor have no answer yet. The answer waits for them.
    var awaited = 0
    /// True while the connection stands in the list of polls that are due.
    var isDue = false
    /// True after the first answer came while others are awaited, which then have a second.
    var isHurried = false
}

extension Watching {
    /// True for a long-poll, and for one of the auctions of a long-poll.
    func isPoll(_ slot: UInt32) -> Bool {
        connections[connections.connection(of: slot)].transport == .longPoll
    }

    func beginManyPoll(_ connection: UInt32) {
        manyPolls[connection] = ManyPoll()
        connections.schedule(connection, at: openRequests[connection]?.deadlineTick ?? context.nowTick)
    }

    /// Notes how many auctions the answer must not leave out: those for which the client gave no cursor.
    func awaitAnswers(_ count: Int, of connection: UInt32) {
        guard count > 0, manyPolls[connection] != nil else { return }
        manyPolls[connection]?.awaited = count
        connections.schedule(connection, seconds: Limits.firstMessageTimeoutSeconds)
    }

    /// Keeps the answer of one auction, which is then out of the poll.
    func keepAnswer(_ body: [UInt8], of slot: UInt32) {
        let connection = connections[slot].owner
        let wasAwaited = !connections[slot].flags.contains(.hasCursor)
        endSubscription(slot)
        guard var poll = manyPolls[connection] else { return }
        poll.parts.append(body)
        if wasAwaited { poll.awaited -= 1 }
        if poll.awaited > 0, !poll.isHurried {
            poll.isHurried = true
            connections.schedule(connection, seconds: 1)
        }
        if poll.awaited <= 0, !poll.isDue {
            poll.isDue = true
            duePolls.append(connections.token(connection))
        }
        manyPolls[connection] = poll
    }

    /// Answers the polls that have something to tell.
    func answerDuePolls() {
        guard !duePolls.isEmpty else { return }
        var due: [UInt64] = []
        swap(&due, &duePolls)
        for token in due {
            guard let connection = connections.slot(of: token), manyPolls[connection]?.isDue == true else {
                continue
            }
            answerManyPoll(connection)
        }
    }

    private func answerManyPoll(_ connection: UInt32) {
        guard !connections[connection].flags.contains(.isEnding) else { return }
        tellOfSilence(connection)
        guard let poll = manyPolls[connection] else { return }
        answerRequest(
            connection,
            HTTPResponse(
                .ok, fields: [("Content-Type", "application/json")], body: EventEncoder.polls(poll.parts)))
    }

    /// Adds the auctions about which nothing came because their Redis does not deliver.
    private func tellOfSilence(_ connection: UInt32) {
        for slot in (subscriptionSets[connection]?.subscriptions ?? [:]).values {
            guard connections[slot].flags.contains(.hasCursor), let channel = channel(of: slot),
                !channel.isLive || channel.snapshot == nil
            else { continue }
            answerPoll(
                slot, on: channel, sequence: connections[slot].cursor, complete: true, events: [])
        }
    }

    /// Answers a poll whose time is over with the parts at hand. If there are none, not even a word on an
    /// auction whose Redis does not deliver, and the client asked for a state, the answer is 503.
    func manyPollTimedOut(_ connection: UInt32) {
        tellOfSilence(connection)
        guard let poll = manyPolls[connection] else { return }
        guard poll.parts.isEmpty, poll.awaited > 0 else { return answerManyPoll(connection) }
        context.counters.timeouts.add()
        refusePoll(connection, retryMilliseconds: context.retryMilliseconds())
    }
}
