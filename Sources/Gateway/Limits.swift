// Every bound of the gateway that is no setting, in one place, with how they relate.

enum Limits {
    /// Milliseconds in one tick of a loop's timer wheel.
    static let tickMilliseconds: Int64 = 250

    /// The longest wait of the hub's loop while it connects or repairs.
    static let busyWaitMilliseconds: Int64 = 20

    // Connections
    /// From accept (or the end of the last answer) to a complete request head.
    static let headTimeoutSeconds = 10
    /// From a watch's acceptance to its first message.
    static let firstMessageTimeoutSeconds = 10
    /// From our close frame to the peer's, and from our last byte to the peer's end.
    static let closeTimeoutSeconds = 5
    /// Connections over the maximum that are told so; further ones are closed at once.
    static let refusalReserve = 64
    /// Descriptors kept for listeners, Redis, epoll and logs.
    static let descriptorReserve = 64
    /// Connections accepted in one turn of a loop.
    static let acceptsPerTurn = 64

    // Input
    /// One receive; also the largest amount read from one connection in a turn.
    static let receiveBytes = 65_536
    /// The largest message a watcher may send.
    static let clientMessageBytes = 4_096
    /// The largest message on an echo path.
    static let echoMessageBytes = 16 << 20
    /// The largest state object taken from Redis.
    static let stateBytes = 49_152

    // Output
    /// Lossless events that wait for one watcher; above it the watcher is closed with 4008.
    static let losslessBacklogBytes = 65_536
    /// Answers that wait on an echo path: the largest message and some.
    static let echoBacklogBytes = 2 * echoMessageBytes
    /// A replay up to this goes out in one piece; beyond it bids merge.
    static let replayBytes = 16_384
    /// Control frames that wait for one peer.
    static let controlBacklogBytes = 1_024
    /// Bids that waited so long for their walk merge: the gateway is behind, and the newest price comes first.
    static let behindMilliseconds: Int64 = 50
    /// Sends of one walk before the next channel has its turn.
    static let walkChunk = 256
    /// Sends in one turn of a loop, over all walks.
    static let sendsPerTurn = 1_024

    // Between threads
    /// Messages waiting for one loop; on overflow the channel is marked and catches up from the ring.
    static let mailboxMessages = 8_192
    /// Loops; a channel's loops are one 64-bit mask.
    static let maximumWorkers = 64

    // Redis
    /// A channel without watchers keeps its subscription for this long, if it has had state or events.
    static let lingerMilliseconds: Int64 = 30_000
    /// Auctions in one MGET, and such reads under way at once on one link.
    static let stateReadBatch = 128
    static let stateReadsInFlight = 8
    /// A state read that Redis refused is repeated after this.
    static let refusedReadRetryMilliseconds: Int64 = 200
    /// Log reads under way at once on one link, and entries in each.
    static let logReadsInFlight = 32
    static let logReadEntries = 1_100
    /// So long a log that was read for someone's resume serves others.
    static let widenedMilliseconds: Int64 = 10_000
    /// Events held behind a hole.
    static let heldEvents = 2_048
    /// A hole that is not filled within this is given up; the log is read this often meanwhile.
    static let holeMilliseconds: Int64 = 1_000
    static let holeRetryMilliseconds: Int64 = 200

    /// Traps when the bounds contradict each other.
    static func check() {
        precondition(walkChunk <= sendsPerTurn)
        precondition(losslessBacklogBytes > clientMessageBytes + 16_384, "one event and one answer must fit")
        precondition(stateBytes + 1_024 <= losslessBacklogBytes, "a snapshot must fit a backlog")
        precondition(maximumWorkers <= UInt64.bitWidth)
    }
}
