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
    /// The last events, contiguous up to ``last``; may begin after the snapshot only where that covers the rest.
    let ring: [EncodedEvent]
    /// The sequence number of the last event delivered in this channel.
    let last: UInt64
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
    /// A loop has its first watcher of an auction, or a new one for which it needs a fresh state.
    case attach(auctionID: String, loop: Int)
    /// A loop's last watcher of an auction left.
    case detach(auctionID: String, loop: Int)
}
