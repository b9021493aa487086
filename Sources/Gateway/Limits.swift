// Every bound of the gateway that is no setting, in one place, with how they relate.

import AuctionEvents
import Compression
import Fanout
import LiveProtocol

enum Limits {
    /// Milliseconds in one tick of a loop's timer wheel.
    static let tickMilliseconds: Int64 = 250

    /// The longest wait of the hub's loop while it connects or repairs.
    static let busyWaitMilliseconds: Int64 = 20

    // Connections
    /// The most connections one gateway is built for.
    static let possibleConnections = 10_000_000
    /// Steps of TLS handshakes in one turn of a loop, each up to a millisecond long: the fan-out goes on
    /// between them.
    static let handshakesPerTurn = 8
    /// From a watch's acceptance to its first message.
    static let firstMessageTimeoutSeconds = 10
    /// From our close frame to the peer's, and from our last byte to the peer's end.
    static let closeTimeoutSeconds = 5
    /// Connections over the maximum that are told so; further ones are closed at once.
    static let refusalReserve = 64
    /// The same for an address that has all its connections.
    static let refusalsPerAddress = 16
    /// How long a loop leaves new connections waiting that it may not or cannot accept.
    static let acceptPauseMilliseconds: Int64 = 50
    /// Between two logs that descriptors have run out.
    static let exhaustionLogMilliseconds: Int64 = 60_000
    /// Between two looks at the process's memory.
    static let memoryCheckMilliseconds: Int64 = 1_000
    /// Token signatures checked in one turn of a loop, each up to a tenth of a millisecond long.
    static let signaturesPerTurn = 32
    /// Tokens that live longer are not timed: ten years.
    static let longestExpirySeconds = 315_360_000
    /// Descriptors kept for listeners, Redis, epoll and logs.
    static let descriptorReserve = 64 + adminConnections
    /// Connections to the admin listener.
    static let adminConnections = 64
    /// Receives of a TLS connection in a row that bring nothing: records without content, or very small
    /// pieces.
    static let emptyReceives = 1_000
    /// Where so many sessions have gone, their memory goes back to the system.
    static let sessionsWorthTrimming = 1_024
    /// Connections accepted in one turn of a loop.
    static let acceptsPerTurn = 64

    // Input
    /// Heads, frames and the like that are interpreted in one turn, and of them those of one connection: who
    /// sends much waits for the fan-out, and not the other way round.
    static let stepsPerTurn = 1_024
    static let stepsPerRead = 64
    /// One receive; also the largest amount read from one connection in a turn.
    static let receiveBytes = 65_536
    /// What a client may send ahead while its long-poll waits.
    static let pipelinedBytes = 8_192
    /// Subscriptions of all connections of one loop.
    static let subscriptionsPerLoop = 1 << 20
    /// The longest user id that names a channel.
    static let userIDBytes = 128
    /// The largest message a watcher may be allowed to send.
    static let clientMessageBytes = 32_768
    /// Seconds' worth of messages that a client may send at once.
    static let messageBurstSeconds = 10
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
    /// What waits for one watcher; above it the watcher is closed with 4008. Messages are its snapshot and
    /// answers.
    static let watcherBounds = Backlog.Bounds(lossless: 65_536, messages: 131_072, control: 1_024)
    /// On a connection with many auctions, where each subscription brings a snapshot.
    static let multiplexedBounds = Backlog.Bounds(lossless: 1 << 20, messages: 1 << 24, control: 1_024)
    /// While so much of it waits, nothing more is read from such a connection.
    static let multiplexedPauseBytes = 1 << 18
    /// On an echo path: the largest message and some.
    static let echoBounds = Backlog.Bounds(lossless: 0, messages: 2 * echoMessageBytes, control: 65_536)
    /// A replay is bounded by the log's length.
    static let replayBounds = Backlog.Bounds(lossless: .max, messages: .max, control: 1_024)
    /// A replay up to this goes out in one piece; beyond it bids merge. Also the most that one long-poll is
    /// given.
    static let replayBytes = 16_384
    /// How long a browser waits before it opens an ended stream again, unless it was told a time.
    static let streamRetryMilliseconds = 1_000...3_000
    /// Watchers stay so long after an auction's end, and then leave one by one over the drain's length.
    static let secondsAfterEnd = 60
    /// A table that held more than this gives its memory back when it is empty.
    static let keptCapacity = 64
    /// What one walk carries at most, in several events for each watcher; a single event may be larger.
    static let walkBytes = 16_384
    /// Sends of one walk before the next channel has its turn.
    static let walkChunk = 256
    /// Sends in one turn of a loop, over all walks.
    static let sendsPerTurn = 1_024
    /// First messages in one turn of a loop to watchers that waited for them.
    static let greetingsPerTurn = 1_024
    /// Connections and subscriptions in one turn of a loop that are told to leave, of all drains and
    /// disconnects.
    static let exitsPerTurn = 1_024
    /// Timers that fire in one turn of a loop.
    static let firesPerTurn = 1_024
    /// Seconds that a draining gateway waits for the first byte of a request.
    static let drainHeadSeconds = 2
    /// Milliseconds after which a client may come back that another gateway, or this one, can serve at once.
    static let promptReturnMilliseconds = 100...1_000

    // Between threads
    /// Messages waiting for one loop; on overflow the channel is marked and catches up from the ring.
    static let mailboxMessages = 8_192
    /// Events without a sequence number that a full mailbox still takes: they cannot be read again.
    static let mailboxReserve = 8_192
    /// Loops; a channel's loops are one 64-bit mask.
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

    // Viewers
    /// A script that Redis did not take is offered again after this.
    static let scriptRetryMilliseconds: Int64 = 1_000
    /// A loop tells the hub of changed numbers this often.
    static let viewersReportMilliseconds: Int64 = 1_000
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
