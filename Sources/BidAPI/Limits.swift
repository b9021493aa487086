// Every bound of the bid API that is no setting, in one place, with how they relate. Those of a statement or
// a table stand with it in `AuctionStore`.

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
    /// Requests of one connection that are answered at the same time; further ones wait, unread.
    static let pipelinedRequests = 16
    /// The longest head of a request.
    static let headBytes = 8_192
    /// How long requests that are under way may take after SIGTERM.
    static let drain = Duration.seconds(10)
    /// Rows of a page, unless the request says otherwise, and what it may say.
    static let pageRows = 20
    static let pageRowsRange = 1...100
    /// Words of a search; further ones are ignored.
    static let searchWords = 10
    /// How many distinct messages about unreadable rows are remembered. Each of them is logged once.
    static let loggedUnreadableRows = 1_000
    /// Passwords that wait to be hashed, some 50 ms each.
    static let waitingPasswords = 200

    // Bids
    /// Bids that wait, over all auctions.
    static let waitingBids = 20_000
    static let bidsPerTransaction = 200
    static let auctionsPerTransaction = 50
    /// Transactions of bids under way: while they wait for the disk, others have the processor.
    static let bidTransactions = 4
    /// How long and how often it is asked what became of a COMMIT that was not answered: a server that was
    /// killed is back after a second or two.
    static let resolving = Duration.seconds(4)
    static let resolvePauseSeconds = 0.2
    /// A bid API that stands still in the middle of its transaction must not keep an auction past its end:
    /// PostgreSQL then ends the transaction.
    static let idleTransactionMilliseconds = 800

    // PostgreSQL
    /// Connections for all but bids.
    static let databaseConnections = 6
    static let searchConnections = 2
    /// Jobs that wait for one of them.
    static let waitingJobs = 4_096
    /// How long `/readyz` waits for an answer.
    static let readiness = Duration.seconds(2)
    /// How often it is looked which auctions begin or end.
    static let clockInterval = Duration.milliseconds(250)
    static let housekeepingInterval = Duration.seconds(60)

    // Redis
    /// How long an event committed by another bid API may wait for us, should that one have died.
    static let relayPollMilliseconds = 250
    /// How long a new auction's answer waits for its state to be in Redis.
    static let longestRound = Duration.milliseconds(500)
    /// Auctions compared with Redis in one batch.
    static let comparedAuctions = 200
    /// Between two attempts to reach a server, and two looks whether it has kept its data.
    static let serverRetryInterval = Duration.milliseconds(250)
    static let serverCheckInterval = Duration.seconds(1)
    /// Between two heartbeats to the gateways, and two looks whether PostgreSQL takes writes.
    static let heartbeatInterval = Duration.seconds(1)
    static let writableCheckInterval = Duration.seconds(1)
    /// Auctions that a server refuses while it takes others; with more, the server counts as lost.
    static let refusedAuctions = 1_000
    static let refusedAuctionsInterval = Duration.seconds(5)
    /// Questions (who watches, who may go on) that wait for one server.
    static let waitingQuestions = 4_096
    static let questionMilliseconds: Int32 = 250
    /// After a failure a server is asked nothing for so long.
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
