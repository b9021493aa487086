// What the feed and the loops tell each other. Everything that crosses threads here is immutable.

import Fanout
import LiveProtocol

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
        case .tooManyAuctions: "this gateway has reached its limit of auctions"
        case .unreadable: "this topic is unavailable: Redis denies access to it"
        case .overrun: "an event was lost in a burst; reconnect"
        }
    }
}

enum LoopMessage: Sendable {
    /// The answer to an attach. An overflowed loop also gets one, to catch up from.
    case attached(Attachment)
    /// The topic cannot be watched, or can no longer be watched.
    case refused(Topic, RefusalReason)
    case event(channel: UInt32, EncodedEvent)
    /// The feed gave a gap up. Every watcher gets this with `complete:false` and goes on behind it.
    case jump(channel: UInt32, Snapshot)
    /// Whether an auction's Redis delivers.
    case feed(channel: UInt32, isLive: Bool)
    case drain
    /// Another process has read Redis and serves the listeners. Connections go to it through the port.
    /// - Parameter kinds: of the listeners that it serves.
    case giveAway(HandoverPort, _ kinds: Set<ListenerKind>)
    /// It has confirmed a batch of so many connections.
    case batchTaken(Int)
    /// It takes nothing more.
    case keepAll
    /// Connections from another process.
    case adopt([MovedConnection])
    /// Connections back from a hand-over that failed.
    case takeBack([MovedConnection])
    /// An operator asks; the answer goes to loop 0, with the question's number.
    case inspect(Int, InspectionQuestion)
    /// A part of the answer, for loop 0.
    case inspected(Int, InspectionPart)
    /// Listeners to serve; the admin listener for loop 0.
    case listen(PublicListeners, admin: Int32?)
    /// Settings that were read anew.
    case reload(GatewayConfiguration)
    /// Close the watchers of one auction, or of all.
    case disconnect(auctionID: String?)
}

/// How many watchers an auction has on one loop.
struct LocalViewers: Sendable {
    let topic: Topic
    let count: Int
}

enum FeedMessage: Sendable {
    /// A loop has its first watcher of a topic, or a new one that it cannot serve by itself.
    case attach(Topic, loop: Int, needs: AttachmentNeeds)
    /// A loop's last watcher of a topic left.
    case detach(Topic, loop: Int)
    /// The auctions whose number of watchers changed on a loop.
    case viewers([LocalViewers], loop: Int)
    /// What is watched, for a process that takes over.
    case listTopics(Reply<[Topic]>)
    /// Subscribe to these and read their states before anybody watches. The reply comes when all are read.
    case prepare([Topic], Reply<Void>)
    /// Another process counts this one's viewers, or soon will. The reply comes when Redis has forgotten this
    /// process's numbers.
    case stopCountingViewers(Reply<Void>)
    /// This process counts its viewers itself again.
    case countViewers
    /// An operator asks; see ``LoopMessage``.
    case inspect(Int, InspectionQuestion)
    /// A cluster's map has changed.
    case topologyChanged
}
