// What the hub and the workers tell each other. Everything that crosses threads here is immutable.

import Fanout

/// An auction's state at a sequence number, as read from Redis.
struct Snapshot: Sendable {
    let sequence: UInt64
    /// The state object without its `seq`; `nil` when nothing was published.
    let state: [UInt8]?
    /// Whether the state says that the auction is over.
    let isEnded: Bool
}

/// What a worker needs to serve a channel: where it stands, and the way there.
struct Attachment: Sendable {
    let topic: Topic
    /// The hub's number of the channel, by which events name it.
    let number: UInt32
    let snapshot: Snapshot
    /// The last events, contiguous up to ``last``; preceded by Redis' log where that was read.
    let events: [EncodedEvent]
    /// The sequence number of the last event delivered in this channel.
    let last: UInt64
    /// Whether the state and the log were read for this: what is not in ``events`` cannot be had.
    let isThorough: Bool

    var footing: Footing {
        Footing(
            last: last, snapshot: snapshot.sequence, firstEvent: events.first?.sequence,
            isThorough: isThorough)
    }

    /// Whether nothing follows what is here.
    var isEnded: Bool { snapshot.isEnded || events.last?.endsAuction == true }
}

/// What a worker needs besides the last events to serve those who wait.
struct AttachmentNeeds: OptionSet, Sendable {
    let rawValue: UInt8

    /// A state that the events lead on from: for joiners without a cursor.
    static let state = AttachmentNeeds(rawValue: 1)
    /// Redis' log and a fresh state: for cursors that the events do not reach.
    static let log = AttachmentNeeds(rawValue: 2)
}

/// Why a topic's watchers are sent away.
enum RefusalReason: Sendable {
    /// The gateway watches as many auctions as it may.
    case tooManyAuctions
    /// Redis refuses the topic's channel or keys.
    case unreadable
    /// Too many events without a sequence number arrived at once, and one of them was lost.
    case overrun

    var message: String {
        switch self {
        case .tooManyAuctions: "this gateway watches as many auctions as it may"
        case .unreadable: "this topic is unavailable: Redis denies access to it"
        case .overrun: "too many messages came at once; reconnect"
        }
    }
}

enum WorkerMail: Sendable {
    /// The answer to an attach; also sent when a worker's mailbox overflowed, to catch up from.
    case attached(Attachment)
    /// The topic cannot be watched, or not any longer.
    case refused(Topic, RefusalReason)
    case event(channel: UInt32, EncodedEvent)
    /// A hole was given up: every watcher gets this with `complete:false` and goes on behind it.
    case jump(channel: UInt32, Snapshot)
    case drain
    /// Settings that were read anew.
    case reload(GatewayConfiguration)
    /// Close the watchers of one auction, or of all.
    case disconnect(auctionID: String?)
}

/// How many watch an auction on one loop.
struct LocalViewers: Sendable {
    let topic: Topic
    let count: Int
}

enum HubMail: Sendable {
    /// A loop has its first watcher of a topic, or a new one that it cannot serve by itself.
    case attach(Topic, loop: Int, needs: AttachmentNeeds)
    /// A loop's last watcher of a topic left.
    case detach(Topic, loop: Int)
    /// Where a loop's number of watchers changed.
    case viewers([LocalViewers], loop: Int)
}
