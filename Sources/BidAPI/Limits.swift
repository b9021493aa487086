// Every bound of the bid API that is not a setting, and the checks of how the bounds relate. The bound of a
// statement or a table is next to it in `AuctionStore`.

import AuctionStore
import NIOCore

enum Limits {
    // Requests
    /// The largest body.
    static let bodyBytes = 65_536
    /// How long a connection may stay silent before it is closed. Longer than any answer takes, and longer
    /// than proxies usually keep idle connections.
    static let silentClient = TimeAmount.seconds(75)
    /// How long a head may take from its first byte to its last, and a body from the end of its head.
    static let headTime = TimeAmount.seconds(10)
    static let bodyTime = TimeAmount.seconds(30)
    /// How long a refused client may take to read why.
    static let refusalTime = TimeAmount.seconds(2)
    /// At most this many requests of one connection are answered at the same time. Further ones wait, unread.
    static let pipelinedRequests = 16
    /// The longest head of a request.
    static let headBytes = 8_192
    /// How long requests that are under way may take after SIGTERM.
    static let drain = Duration.seconds(10)
    /// Rows of a page by default, and the range that a request may ask for.
    static let pageRows = 20
    static let pageRowsRange = 1...100
    /// At most this many words of a search are used. Further words are ignored.
    static let searchWords = 10
    /// How many distinct messages about unreadable rows are remembered. Each of them is logged once.
    static let loggedUnreadableRows = 1_000
    /// At most this many passwords wait to be hashed. Each takes about 50 ms.
    static let waitingPasswords = 200

    // Bids
    /// At most this many bids are traced in a second.
    static let tracesPerSecond = 20
    /// Bids that wait, over all auctions.
    static let waitingBids = 20_000
    static let bidsPerTransaction = 200
    static let auctionsPerTransaction = 50
    /// At most this many bid transactions are under way. While they wait for the disk, others use the
    /// processor.
    static let bidTransactions = 4
    /// How long the queue asks for the outcome of a COMMIT whose answer was lost, and the pause between two
    /// attempts. A killed server is back after a second or two.
    static let resolving = Duration.seconds(4)
    static let resolvePauseSeconds = 0.2
    /// How long a bid transaction may idle before PostgreSQL ends it. A bid API that stalls in the middle of
    /// a transaction must not keep an auction past its end.
    static let idleTransactionMilliseconds = 800

    // PostgreSQL
    /// How often the check for a pooler is tried while PostgreSQL cannot be reached.
    static let poolingCheckInterval = Duration.seconds(1)
    /// Connections for all but bids.
    static let databaseConnections = 6
    static let searchConnections = 2
    /// At most this many jobs wait for a connection of one pool.
    static let waitingJobs = 4_096
    /// Connections to the replica for lists and histories, and for searches.
    static let replicaConnections = 4
    static let replicaSearches = 2
    /// How long a list or history, and a search, waits for the replica before the primary is asked.
    static let replicaPageTime = Duration.milliseconds(500)
    static let replicaSearchTime = Duration.seconds(4)
    /// How long the bid API waits between two beats that it counts on the primary.
    static let replicaBeatInterval = Duration.milliseconds(500)
    /// How long `/readyz` waits for an answer.
    static let readiness = Duration.seconds(2)
    /// How often the closer looks for auctions that are due to start or end.
    static let clockInterval = Duration.milliseconds(250)
    static let housekeepingInterval = Duration.seconds(60)

    // Redis
    /// How often the relay polls. If another bid API dies after a commit, its events wait at most this long.
    static let relayPollMilliseconds = 250
    /// How soon the relay does its next round while it has no server, or while a cluster's slot is on the
    /// move.
    static let unsettledMilliseconds = 20
    /// How long after a cluster's node has gained slots its auctions are compared. Slots move one by one.
    static let gainComparisonDelay = Duration.seconds(1)
    /// How long a new auction's answer waits for its state to be in Redis.
    static let longestRound = Duration.milliseconds(500)
    /// Auctions compared with Redis in one batch.
    static let comparedAuctions = 200
    /// How long the relay waits between attempts to reach a server, and between checks of the server's data.
    static let serverRetryInterval = Duration.milliseconds(100)
    static let serverCheckInterval = Duration.seconds(1)
    /// How long the relay waits between heartbeats to the gateways, and between checks that PostgreSQL takes
    /// writes.
    static let heartbeatInterval = Duration.seconds(1)
    static let writableCheckInterval = Duration.seconds(1)
    /// At most this many auctions may be refused while the server takes others. With more, it counts as lost.
    static let refusedAuctions = 1_000
    static let refusedAuctionsInterval = Duration.seconds(5)
    /// At most this many queries (viewer counts, rate limits) wait for one server.
    static let waitingQuestions = 4_096
    static let questionMilliseconds: Int32 = 250
    /// How long a server receives no query after a failure.
    static let questionPause = Duration.seconds(1)

    /// Traps when the numbers contradict each other.
    static func check() {
        // A batch whose transaction is undone is decided once more, and that COMMIT may be lost too.
        precondition(resolving * 2 < drain, "lost COMMITs must be resolved before the drain is over")
        precondition(pageRowsRange.contains(pageRows))
        precondition(auctionsPerTransaction <= bidsPerTransaction && bidsPerTransaction <= waitingBids)
        precondition(
            idleTransactionMilliseconds < PostgresConnection.lockMilliseconds,
            "a bid must outlast the transaction of a bid API that stands still")
        precondition(PostgresConnection.lockMilliseconds < PostgresConnection.statementMilliseconds)
    }
}
