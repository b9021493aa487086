// What an operator may look at: a question, and the parts of its answer that the loops and the feed give.

enum InspectionQuestion: Sendable {
    case auction(id: String)
    /// The watchers whose full sockets have taken nothing for longest, at most so many.
    case slowestWatchers(Int)
    case redis
}

enum InspectionPart: Sendable {
    case loop(LoopView)
    /// `nil` when the gateway is not subscribed to the auction.
    case feed(FeedView?)
    case watchers([SlowWatcherView])
    case servers([ServerView])
}

/// An auction as one loop has it.
struct LoopView: Sendable {
    let loop: Int
    /// The last event that has come to this loop; `nil` when nobody watches here.
    var sequence: UInt64?
    var webSockets = 0
    var eventStreams = 0
    var longPolls = 0
    /// On connections with many auctions.
    var subscriptions = 0
    /// Watchers without their first message.
    var waiting = 0
    /// Watchers whose socket is full, and for how long the one that has waited longest has taken nothing.
    var backlogs = 0
    var oldestBacklogSeconds: Double?
}

/// An auction as the feed has it.
struct FeedView: Sendable {
    let server: String
    let isSubscribed: Bool
    let isLive: Bool
    let sequence: UInt64
    let stateSequence: UInt64?
    /// How long a gap has been open; `nil` without one.
    let gapMilliseconds: Int64?
    let heldEvents: Int
    let historyEvents: Int
    let historyBytes: Int
}

struct SlowWatcherView: Sendable {
    let loop: Int
    let transport: String
    /// `nil` on a connection with many auctions.
    let auctionID: String?
    let seconds: Double
    let bytes: Int
    /// Events of its auction that it has been sent or that wait in its backlog, and the newest one.
    let cursor: UInt64
    let newest: UInt64
    let address: String
}

/// A Redis server as the feed has it.
struct ServerView: Sendable {
    let label: String
    let isUp: Bool
    let probeAgeMilliseconds: Int64?
    let isHeartbeatMissing: Bool
    let topics: Int
    let readsUnderWay: Int
    let readsWaiting: Int
}
