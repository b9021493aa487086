// What a watcher takes along when it moves to another process, and how one that has come goes on.

import AuctionEvents
import Fanout
import LiveProtocol
import Telemetry

extension Watching {
    // MARK: Leaving

    /// True when a watcher's cursors say all about where it stands.
    func mayMove(_ slot: UInt32) -> Bool {
        watches(of: slot).allSatisfy { watch in
            guard connections[watch].phase == .watching, let channel = channel(of: watch) else {
                return false
            }
            return !channel.hasPendingWithoutCursor
        }
    }

    func activity(of slot: UInt32) -> MovedConnection.Activity {
        let moved = watches(of: slot).compactMap { watch in
            channel(of: watch).map { channel in
                MovedConnection.Watch(
                    topic: channel.topic, cursor: connections[watch].cursor,
                    knowsSilence: !channel.isLive)
            }
        }
        guard connections[slot].phase == .multiplexing else { return .watch(moved[0]) }
        return .many(moved, access(of: slot) ?? .anonymous)
    }

    /// The records that stand for a connection's watches, in the order of the request for a stream.
    private func watches(of slot: UInt32) -> [UInt32] {
        guard connections[slot].phase == .multiplexing else { return [slot] }
        let subscriptions = Array((subscriptionSets[slot]?.subscriptions ?? [:]).values)
        guard connections[slot].transport == .eventStream else { return subscriptions }
        return output.positions(of: slot).filter(subscriptions.contains)
    }

    /// Answers a long-poll before its time, as if that were over.
    func answerEarly(_ slot: UInt32) {
        if connections[slot].phase == .multiplexing {
            // A poll that must not leave an auction out waits for it.
            guard manyPolls[slot].map({ $0.awaited <= 0 }) ?? false else { return }
            manyPollTimedOut(slot)
        } else {
            pollTimedOut(slot)
        }
    }

    // MARK: Coming

    /// Lets a connection from another process go on watching.
    func goOn(_ slot: UInt32, _ watch: MovedConnection.Watch) {
        connections.mark(slot, watch.knowsSilence ? [.isMoved, .knowsSilence] : .isMoved)
        join(slot, watch.topic, since: watch.topic.kind == .auction ? watch.cursor : nil)
    }

    /// Lets a connection with many auctions go on watching each of them.
    func goOn(_ slot: UInt32, _ watches: [MovedConnection.Watch]) {
        for watch in watches {
            guard let subscription = connections.insertSubscription(of: slot) else {
                refuse(
                    slot, "OVER_CAPACITY", "this gateway has no room for the subscription", watch.topic.id)
                continue
            }
            subscriptionSets[slot]?.subscriptions[watch.topic.id] = subscription
            if connections[slot].transport == .eventStream {
                output.addPosition(watch.topic.id, subscription: subscription, since: watch.cursor, to: slot)
            }
            goOn(subscription, watch)
        }
    }

    /// Lets a watcher that has moved receive events: first those that it has missed.
    func continueWatching(_ slot: UInt32, on channel: Channel, then events: [EncodedEvent], upTo last: UInt64)
    {
        beginWatching(slot, on: channel)
        connections.setCursor(slot, max(last, connections[slot].cursor))
        if connections[slot].transport == .subscription {
            connections.cancelTimer(slot)
        } else {
            scheduleHeartbeat(slot, isFirst: true)
            if channel.isEnded { scheduleDeparture(slot, of: channel) }
        }
        context.counters.deliveries.add(events.count)
        for event in events { connections.settle(output.send(event, to: slot), of: slot) }
    }

    /// Tells a new watcher what its auction's feed is like, if that is not what it believes.
    func tellFeed(_ slot: UInt32, on channel: Channel) {
        let knowsSilence = connections[slot].flags.contains(.knowsSilence)
        connections.unmark(slot, [.isMoved, .knowsSilence])
        guard knowsSilence == channel.isLive else { return }
        connections.settle(output.send(feedEvent(of: channel), to: slot), of: slot)
    }
}
