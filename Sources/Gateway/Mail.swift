// What the hub and the workers tell each other. Everything that crosses threads here is immutable.

import Fanout

/// An auction's state at a sequence number, as read from Redis.
struct Snapshot: Sendable {
    let sequence: UInt64
    /// The state object without its `seq`; `nil` when nothing was published.
    let state: [UInt8]?
}

/// What a worker needs to serve a channel: where it stands, and the way there.
struct Attachment: Sendable {
    let auctionID: String
    /// The hub's number of the channel, by which events name it.
    let number: UInt32
    let snapshot: Snapshot
    /// The last events, contiguous up to ``last``; preceded by Redis' log where that was read.
    let events: [EncodedEvent]
    /// The sequence number of the last event delivered in this channel.
    let last: UInt64
    /// Whether the state and the log were read for this: what is not in ``events`` cannot be had.
    let isThorough: Bool

    /// Whether ``events`` lead from `cursor` to ``last`` without a gap.
    func reaches(_ cursor: UInt64) -> Bool {
        guard cursor < last else { return cursor == last }
        guard let first = events.first?.sequence else { return false }
        return first <= cursor + 1
    }
}

/// What a worker needs besides the last events to serve those who wait.
struct AttachmentNeeds: OptionSet, Sendable {
    let rawValue: UInt8

    /// A state that the events lead on from: for joiners without a cursor.
    static let state = AttachmentNeeds(rawValue: 1)
    /// Redis' log and a fresh state: for cursors that the events do not reach.
    static let log = AttachmentNeeds(rawValue: 2)
}

enum WorkerMail: Sendable {
    /// The answer to an attach; also sent when a worker's mailbox overflowed, to catch up from.
    case attached(Attachment)
    /// The auction cannot be watched: the gateway is at its limit of auctions.
    case refused(auctionID: String)
    case event(channel: UInt32, EncodedEvent)
    /// A hole was given up: every watcher gets this with `complete:false` and goes on behind it.
    case jump(channel: UInt32, Snapshot)
    case drain
    /// Close the watchers of one auction, or of all.
    case disconnect(auctionID: String?)
}

enum HubMail: Sendable {
    /// A loop has its first watcher of an auction, or a new one that it cannot serve by itself.
    case attach(auctionID: String, loop: Int, needs: AttachmentNeeds)
    /// A loop's last watcher of an auction left.
    case detach(auctionID: String, loop: Int)
}
