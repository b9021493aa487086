// Every bound of the gateway that is not a setting, in one place, and how they relate.

import AuctionEvents
import Compression
import Fanout
import LiveProtocol

enum Limits {
    /// Milliseconds in one tick of a loop's timer wheel.
    static let tickMilliseconds: Int64 = 250

    /// The longest wait of the feed's loop while the feed connects or repairs.
    static let busyWaitMilliseconds: Int64 = 20

    // Connections
    /// The most connections one gateway is built for.
    static let possibleConnections = 10_000_000
    /// At most so many steps of TLS handshakes in one turn of a loop. Each takes up to a millisecond, and the
    /// fan-out must go on between them.
    static let handshakesPerTurn = 8
    /// How long a watch may take from its acceptance to its first message.
    static let firstMessageTimeoutSeconds = 10
    /// How long the peer may take from our close frame to its own, and from our last byte to its end.
    static let closeTimeoutSeconds = 5
    /// At most so many connections over the maximum are told so. Further ones are closed at once.
    static let refusalReserve = 64
    /// The same for one address that is over its limit.
    static let refusalsPerAddress = 16
    /// How long a loop leaves new connections waiting that it may not or cannot accept.
    static let acceptPauseMilliseconds: Int64 = 50
    /// The least time between two log entries that say that descriptors have run out.
    static let exhaustionLogMilliseconds: Int64 = 60_000
    /// The time between two checks of the process's memory.
    static let memoryCheckMilliseconds: Int64 = 1_000
    /// Token signatures checked in one turn of a loop, each up to a tenth of a millisecond long.
    static let signaturesPerTurn = 32
    /// The longest expiry of a token that is timed: ten years.
    static let longestExpirySeconds = 315_360_000
    /// Descriptors kept for listeners, Redis, epoll and logs.
    static let descriptorReserve = 64 + adminConnections
    /// Connections to the admin listener.
    static let adminConnections = 64
    /// At most so many receives of a TLS connection in a row may bring nothing: records without content, or
    /// very small pieces.
    static let emptyReceives = 1_000
    /// Where at least so many sessions were open and most have ended, their memory returns to the system.
    static let sessionsWorthTrimming = 1_024
    /// Connections accepted in one turn of a loop.
    static let acceptsPerTurn = 64

    // Input
    /// At most so many heads, frames and the like are interpreted in one turn, and at most so many of one
    /// connection. A client that sends much waits for the fan-out, and not the other way round.
    static let stepsPerTurn = 1_024
    static let stepsPerRead = 64
    /// One receive; also the largest amount read from one connection in a turn.
    static let receiveBytes = 65_536
    /// How much a client may send ahead while its long-poll waits.
    static let pipelinedBytes = 8_192
    /// Subscriptions of all connections of one loop.
    static let subscriptionsPerLoop = 1 << 20
    /// The longest user id that names a channel.
    static let userIDBytes = 128
    /// The largest message a watcher may be allowed to send.
    static let clientMessageBytes = 32_768
    /// Seconds' worth of messages that a client may send at once.
    static let messageBurstSeconds = 10
    /// At most this many traced events are reported per second by each loop.
    static let tracesPerSecond = 20
    /// How often a client of many auctions may name them all at once.
    static let subscribingRounds = 4
    /// The largest request body on the echo path, and how long it may take.
    static let echoBodyBytes = 1 << 20
    static let bodyTimeoutSeconds = 30
    /// The largest message on an echo path.
    static let echoMessageBytes = 16 << 20

    // Output
    /// The send buffer of an admin connection: a whole page of metrics.
    static let adminSendBytes = 1 << 20
    /// How much may wait for one watcher. Above it, the watcher is closed with 4008. Messages are its
    /// snapshot and answers.
    static let watcherBounds = Backlog.Bounds(lossless: 65_536, messages: 131_072, control: 1_024)
    /// On a connection with many auctions, where each subscription brings a snapshot.
    static let multiplexedBounds = Backlog.Bounds(lossless: 1 << 20, messages: 1 << 24, control: 1_024)
    /// While so much waits for a connection with many auctions, nothing more is read from it.
    static let multiplexedPauseBytes = 1 << 18
    /// On an echo path: the largest message and some.
    static let echoBounds = Backlog.Bounds(lossless: 0, messages: 2 * echoMessageBytes, control: 65_536)
    /// A replay is bounded by the log's length.
    static let replayBounds = Backlog.Bounds(lossless: .max, messages: .max, control: 1_024)
    /// A replay of up to this size goes out in one piece. Beyond it, bids merge. One long-poll also gets at
    /// most this much.
    static let replayBytes = 16_384
    /// How long a browser waits before it opens an ended stream again, unless it was told a time.
    static let streamRetryMilliseconds = 1_000...3_000
    /// How long watchers stay after an auction's end. Then they leave one by one over the drain's length.
    static let secondsAfterEnd = 60
    /// A table that held more entries than this returns its memory when it is empty.
    static let keptCapacity = 64
    /// At most so many bytes of several events go to each watcher in one walk. A single event may be larger.
    static let walkBytes = 16_384
    /// Sends of one walk before the next channel has its turn.
    static let walkChunk = 256
    /// Sends in one turn of a loop, over all walks.
    static let sendsPerTurn = 1_024
    /// First messages in one turn of a loop to watchers that waited for them.
    static let greetingsPerTurn = 1_024
    /// At most so many connections and subscriptions are told to leave in one turn of a loop, over all drains
    /// and disconnects.
    static let exitsPerTurn = 1_024
    /// Timers that fire in one turn of a loop.
    static let firesPerTurn = 1_024
    /// Seconds that a draining gateway waits for the first byte of a request.
    static let drainHeadSeconds = 2
    /// After how many milliseconds a client comes back when another gateway, or this one, can serve it at
    /// once.
    static let promptReturnMilliseconds = 100...1_000

    // Hand-over
    /// How long one process waits for the other's next word, in seconds.
    static let handoverPatienceSeconds = 20
    /// How long the new process may take to subscribe and read. Then it gives up.
    static let preparationSeconds = 15
    /// How long Redis may take to forget the viewers of a process that has handed over.
    static let viewersForgottenSeconds = 1
    /// At most so many attempts to take the connections, the first one included.
    static let handoverAttempts = 3
    /// How long the new process waits after an attempt that broke off.
    static let handoverRetryMilliseconds: Int64 = 500
    /// How long the loop keeps trying connections that cannot move at once. After that, it drains them.
    static let givingMilliseconds: Int64 = 5_000
    static let givingRetryMilliseconds: Int64 = 20
    /// Connections that a loop looks at in one turn.
    static let givesPerTurn = 256
    /// A batch is full at either bound, and a loop has at most so many under way.
    static let batchConnections = 192
    static let batchBytes = 1 << 18
    static let batchesInFlight = 3

    // Between threads
    /// At most so many messages wait for one loop. On overflow, the loop is marked and catches up from the
    /// ring.
    static let mailboxMessages = 8_192
    /// A full mailbox still takes so many events without a sequence number, because they cannot be read
    /// again.
    static let mailboxReserve = 8_192
    /// At most so many loops, because a channel's loops are one 64-bit mask.
    static let maximumWorkers = LoopSet.capacity

    // Redis
    /// How many refused topics are remembered. Each of them is logged once.
    static let loggedRefusals = 1_000
    /// A channel without watchers keeps its subscription for this long, if it has had state or events.
    static let retainMilliseconds: Int64 = 30_000
    /// Auctions in one MGET, and such reads under way at once on one link.
    static let stateReadBatch = 128
    static let stateReadsInFlight = 8
    /// A state read that Redis refused, or that brought nothing of use, is repeated after this.
    static let stateRetryMilliseconds: Int64 = 200
    /// Log reads under way at once on one link, and entries in each.
    static let logReadsInFlight = 32
    static let logReadEntries = 1_100

    /// How often a cluster's map is read while one of its nodes is down.
    static let mapRefreshMilliseconds: Int64 = 200
    /// A subscription that a cluster's node refused for the moment is tried again after this.
    static let resubscribeMilliseconds: Int64 = 200

    /// How often the feed updates the age of the oldest probe, which scrapes read.
    static let probeNoteMilliseconds: Int64 = 250

    /// How long an operator's question waits for all loops.
    static let inspectionMilliseconds: Int64 = 2_000
    /// Watchers in one answer.
    static let inspectedWatchers = 1...1_000

    // Viewers
    /// A script that Redis did not take is offered again after this.
    static let scriptRetryMilliseconds: Int64 = 1_000
    /// How often a loop tells the feed which numbers have changed.
    static let viewersReportMilliseconds: Int64 = 1_000
    /// How long probes may stay away before watchers are told that Redis does not deliver. A probe is sent
    /// every 500 ms and has 2 s to come back.
    static let feedSilenceMilliseconds: Int64 = 2_500
    /// At most this many auctions per turn are told whether their Redis delivers.
    static let feedNewsPerTurn = 1_024
    /// The longest time between two reports to Redis: a gateway's number is ignored after 15 s.
    static let viewersRefreshMilliseconds: Int64 = 5_000
    /// Auctions in one report, and such reports under way at once on one link.
    static let viewersBatch = 100
    static let viewersReportsInFlight = 4

    /// Traps when the bounds contradict each other.
    static func check() {
        precondition(walkChunk <= sendsPerTurn && stepsPerRead <= stepsPerTurn)
        precondition(watcherBounds.lossless >= 2 * EventEnvelope.maximumBytes, "events must fit a backlog")
        precondition(
            LiveLimits.stateBytes + 1_024 <= watcherBounds.messages / 2,
            "a snapshot and answers must fit a backlog")
        precondition(clientMessageBytes + 1_024 <= watcherBounds.messages / 2)
        precondition(FanoutLimits.sharedDeflateBits == MessageDeflater.sharedWindowBits)
    }
}
