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

    /// An event that waits for its walk; bids that waited too long are merged into the newest.
    struct Pending {
        let event: EncodedEvent
        /// The sequence number of the first event it stands for.
        var first: UInt64
        /// When the first of them arrived, in the loop's milliseconds.
        var since: Int64
    }

    /// Events to walk, the first one from ``walkPosition`` on.
    var pending: Deque<Pending> = []
    /// The frame under way: the event's own, or that of a merged one.
    var walkFrame: [UInt8] = []
    var walkPosition = 0
    /// Whether the channel stands in the worker's queue of walks.
    var isQueued = false

    init(auctionID: String, index: UInt32) {
        self.auctionID = auctionID
        self.index = index
    }

    /// Adds an event to walk, into the last one where that is a bid that has waited and whose walk has not begun.
    /// Returns whether it merged.
    func append(_ event: EncodedEvent, now: Int64) -> Bool {
        let hasUnbegun = pending.count > (walkPosition > 0 ? 1 : 0)
        if hasUnbegun, let last = pending.last, Self.merges(last, event, now: now) {
            pending[pending.count - 1] = Pending(event: event, first: last.first, since: last.since)
            return true
        }
        pending.append(Pending(event: event, first: event.sequence, since: now))
        return false
    }

    /// Merges what has waited at the head into the newest bid that follows without anything in between. Returns how many
    /// events that saved. Only between two walks.
    func mergeWaiting(now: Int64) -> Int {
        var saved = 0
        while pending.count > 1, Self.merges(pending[0], pending[1].event, now: now) {
            let head = pending.removeFirst()
            pending[0].first = head.first
            pending[0].since = head.since
            saved += 1
        }
        return saved
    }

    private static func merges(_ earlier: Pending, _ later: EncodedEvent, now: Int64) -> Bool {
        earlier.event.isConflatable && later.isConflatable && now - earlier.since >= Limits.behindMilliseconds
    }

    var isEmpty: Bool { watchers.count == 0 && waiting.count == 0 }
}
