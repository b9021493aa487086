// Many auctions on one connection (`/v1/live`): each subscription has a record of its own in the slab, which
// names the connection's. A subscription set holds a connection's subscriptions together.

import AuctionEvents
import Fanout
import LiveProtocol
import Reactor
import Synchronization
import Telemetry
import Wire

struct SubscriptionSet {
    /// What the client may subscribe to.
    let access: Access
    /// The subscriptions' slots, by auction.
    var subscriptions: [String: UInt32] = [:]
}

extension Watching {
    /// Lets a connection carry many auctions.
    func beginMultiplexing(_ slot: UInt32, _ access: Access) {
        subscriptionSets[slot] = SubscriptionSet(access: access)
        connections.transition(slot, to: .multiplexing)
        countWatcher(slot, 1)
        guard connections[slot].transport != .longPoll else { return beginManyPoll(slot) }
        output.separateWatches(of: slot)
        scheduleHeartbeat(slot, isFirst: true)
    }

    /// What the client of a connection with many auctions may subscribe to.
    func access(of connection: UInt32) -> Access? {
        subscriptionSets[connection]?.access
    }

    /// Subscribes to an auction. A second subscription to the same auction goes on from the new cursor.
    func subscribe(_ connection: UInt32, _ auctionID: AuctionID, since: UInt64?) {
        let earlier = subscriptionSets[connection]?.subscriptions[auctionID.text]
        if let earlier { endSubscription(earlier) }
        let most = context.configuration.maxSubscriptions
        guard let set = subscriptionSets[connection], set.subscriptions.count < most else {
            return refuse(
                connection, "TOO_MANY_SUBSCRIPTIONS", "at most \(most) auctions on one connection",
                auctionID.text)
        }
        let hasMemory = earlier != nil || !context.shared.isOverMemory.load(ordering: .relaxed)
        let hasRoom =
            hasMemory && context.counters.subscriptions.current < Limits.subscriptionsPerLoop
        guard hasRoom, let slot = connections.insertSubscription(of: connection) else {
            return refuse(
                connection, "OVER_CAPACITY", "this gateway has no room for the subscription", auctionID.text)
        }
        subscriptionSets[connection]?.subscriptions[auctionID.text] = slot
        if connections[connection].transport == .eventStream {
            output.addPosition(auctionID.text, subscription: slot, since: since, to: connection)
        }
        join(slot, .auction(auctionID.text), since: since)
    }

    /// Ends the subscription to an auction at the client's wish.
    func unsubscribe(_ connection: UInt32, auctionID: String) {
        guard let slot = subscriptionSets[connection]?.subscriptions[auctionID] else {
            return refuse(connection, "NOT_SUBSCRIBED", "you are not subscribed to this auction", auctionID)
        }
        endSubscription(slot)
        connections.settle(output.send(EventEncoder.unsubscribed(auctionID), to: connection), of: connection)
    }

    /// Tells the client of a WebSocket what is wrong with its message. A long-poll is answered with 503.
    func refuse(_ connection: UInt32, _ code: String, _ message: String, _ auctionID: String? = nil) {
        guard connections[connection].transport != .longPoll else {
            return connections.end(connection, .dismissal(overCapacity(message)))
        }
        let event = EventEncoder.error(code, message, auctionID: auctionID)
        connections.settle(output.send(event, to: connection), of: connection)
    }

    /// Ends a subscription that cannot be served. Over WebSocket, only the subscription ends. An event stream
    /// can say so only by ending, and the client opens it again.
    func dismissSubscription(_ slot: UInt32, _ dismissal: Dismissal) {
        let connection = connections[slot].owner
        guard connections[connection].transport == .webSocket else {
            return connections.end(connection, .dismissal(dismissal))
        }
        let auctionID = channel(of: slot)?.topic.id
        endSubscription(slot)
        refuse(connection, "UNAVAILABLE", dismissal.message, auctionID)
    }

    /// Ends a subscription at an operator's wish. The connection stays for its other auctions.
    func disconnectSubscription(_ slot: UInt32) {
        let connection = connections[slot].owner
        guard let auctionID = channel(of: slot)?.topic.id else { return }
        let retry = context.promptRetryMilliseconds()
        guard connections[connection].transport != .longPoll else {
            return refusePoll(connection, retryMilliseconds: retry)
        }
        endSubscription(slot)
        let event = EventEncoder.unsubscribed(auctionID, retryMilliseconds: retry)
        connections.settle(output.send(event, to: connection), of: connection)
    }

    private func overCapacity(_ message: String) -> Dismissal {
        Dismissal(
            code: CloseCode.tryAgainLater, message: message, retryMilliseconds: context.retryMilliseconds())
    }

    func endSubscription(_ slot: UInt32) {
        let connection = connections[slot].owner
        if let auctionID = channel(of: slot)?.topic.id {
            subscriptionSets[connection]?.subscriptions.removeValue(forKey: auctionID)
        }
        output.forget(subscription: slot, of: connection)
        free(subscription: slot)
    }

    func free(subscription slot: UInt32) {
        leaveChannel(slot)
        connections.freeSubscription(slot)
    }
}
