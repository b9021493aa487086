// Many auctions on one connection (`/v1/live`): each subscription has a record of its own in the slab, which
// names the connection's; a bundle holds a connection's subscriptions together.

import AuctionEvents
import Fanout
import Reactor
import Synchronization
import Telemetry
import Wire

struct Bundle {
    /// One auction of an event stream, as it stands in the stream's ids.
    private struct Position {
        let auctionID: String
        let subscription: UInt32
        var cursor: UInt64?
    }

    /// What the client may subscribe to.
    let access: Access
    /// The subscriptions' slots, by auction.
    var subscriptions: [String: UInt32] = [:]
    /// An event stream's auctions, in the order of the request, at what the client has once it has read all
    /// that was encoded so far.
    private var positions: [Position] = []

    init(access: Access) {
        self.access = access
    }

    mutating func addToID(_ auctionID: String, subscription: UInt32, since: UInt64?) {
        positions.append(Position(auctionID: auctionID, subscription: subscription, cursor: since))
    }

    /// The stream's id with and after `event` of `subscription`; `nil` when it moves no cursor.
    mutating func id(after event: EncodedEvent, for subscription: UInt32) -> String? {
        guard let cursor = event.cursor,
            let index = positions.firstIndex(where: { $0.subscription == subscription })
        else { return nil }
        positions[index].cursor = cursor
        let known = positions.compactMap { position in position.cursor.map { "\(position.auctionID):\($0)" } }
        return known.joined(separator: ",")
    }
}

extension Worker {
    /// Lets a connection carry many auctions.
    func beginBundle(_ slot: UInt32, _ access: Access) {
        bundles[slot] = Bundle(access: access)
        slab[slot].phase = .bundling
        countWatcher(slot, 1)
        scheduleHeartbeat(slot, isFirst: true)
        scheduleExpiry(slot, of: access)
    }

    /// Subscribes a bundle to an auction; again on the same auction it goes on from the new cursor.
    func subscribe(_ connection: UInt32, _ auctionID: AuctionID, since: UInt64?) {
        let earlier = bundles[connection]?.subscriptions[auctionID.text]
        if let earlier { endSubscription(earlier) }
        guard let bundle = bundles[connection], bundle.subscriptions.count < configuration.maxSubscriptions
        else {
            return refuse(
                connection, "TOO_MANY_SUBSCRIPTIONS",
                "at most \(configuration.maxSubscriptions) auctions on one connection", auctionID.text)
        }
        let hasMemory = earlier != nil || !shared.isOverMemory.load(ordering: .relaxed)
        let hasRoom = hasMemory && handle.counters.subscriptions.current < Limits.subscriptionsPerLoop
        guard hasRoom, let slot = slab.insert(subscriptionOf: connection) else {
            return refuse(
                connection, "OVER_CAPACITY", "this gateway has no room for the subscription", auctionID.text)
        }
        bundles[connection]?.subscriptions[auctionID.text] = slot
        if slab[connection].transport == .eventStream {
            bundles[connection]?.addToID(auctionID.text, subscription: slot, since: since)
        }
        join(slot, .auction(auctionID.text), since: since)
    }

    /// Ends the subscription to an auction at the client's wish.
    func unsubscribe(_ connection: UInt32, auctionID: String) {
        guard let slot = bundles[connection]?.subscriptions[auctionID] else {
            return refuse(connection, "NOT_SUBSCRIBED", "there is no subscription to end", auctionID)
        }
        endSubscription(slot)
        send(EventEncoder.unsubscribed(auctionID), to: connection)
    }

    func refuse(_ connection: UInt32, _ code: String, _ message: String, _ auctionID: String? = nil) {
        send(EventEncoder.error(code, message, auctionID: auctionID), to: connection)
    }

    /// A subscription that cannot be served: over WebSocket it alone ends; an event stream has no other way
    /// to say so than to end and be opened again.
    func dismissSubscription(_ slot: UInt32, _ code: UInt16, _ message: String, retryMilliseconds: Int?) {
        let connection = slab[slot].owner
        guard slab[connection].transport == .webSocket else {
            return dismiss(connection, code, message, retryMilliseconds: retryMilliseconds)
        }
        let auctionID = channels[Int(slab[slot].channel)]?.topic.id
        endSubscription(slot)
        refuse(connection, "UNAVAILABLE", message, auctionID)
    }

    /// Ends a subscription at an operator's wish. The connection stays for its other auctions.
    func disconnectSubscription(_ slot: UInt32) {
        let connection = slab[slot].owner
        guard let auctionID = channels[Int(slab[slot].channel)]?.topic.id else { return }
        endSubscription(slot)
        let retry = Int.random(in: Limits.promptReturnMilliseconds, using: &generator)
        send(EventEncoder.unsubscribed(auctionID, retryMilliseconds: retry), to: connection)
    }

    private func endSubscription(_ slot: UInt32) {
        let connection = slab[slot].owner
        if let auctionID = channels[Int(slab[slot].channel)]?.topic.id {
            bundles[connection]?.subscriptions.removeValue(forKey: auctionID)
        }
        if slab[connection].flags.contains(.hasBacklog) { backlogs[connection]?.forget(watch: slot) }
        free(subscription: slot)
    }

    private func free(subscription slot: UInt32) {
        leaveChannel(slot)
        timers.cancel(slot)
        slab.remove(slot)
    }

    /// Takes a connection off everything it watches.
    func leaveAll(_ slot: UInt32) {
        leaveChannel(slot)
        guard slab[slot].phase == .bundling, let bundle = bundles.removeValue(forKey: slot) else { return }
        countWatcher(slot, -1)
        for subscription in bundle.subscriptions.values { free(subscription: subscription) }
    }
}
