// One auction on one loop: its watchers, those that still wait for their first message, and the events whose walk is
// not finished. A worker's own; made with the first watcher and gone with the last.

import DequeModule
import Fanout

final class Channel {
    let auctionID: String
    /// The index in the worker's table, which watchers' records hold.
    let index: UInt32
    /// The hub's number; `nil` until the first attachment.
    var number: UInt32?

    /// The watchers that receive events.
    var watchers = SubscriberList()
    /// The watchers without their first message.
    var waiting = SubscriberList()
    /// What was asked of the hub and not answered; `nil` when nothing is under way.
    var requested: AttachmentNeeds?

    /// The newest state this loop was given; `nil` until the first attachment.
    var snapshot: Snapshot?
    /// The sequence number of the last event that arrived here (its walk may not be finished).
    var last: UInt64 = 0

    /// Events to walk, the first one from ``walkPosition`` on.
    var pending: Deque<EncodedEvent> = []
    var walkPosition = 0
    /// Whether the channel stands in the worker's queue of walks.
    var isQueued = false

    init(auctionID: String, index: UInt32) {
        self.auctionID = auctionID
        self.index = index
    }

    var isEmpty: Bool { watchers.count == 0 && waiting.count == 0 }
}
