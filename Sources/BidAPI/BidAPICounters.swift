// The bid API's counters and histograms. Any task or thread may write to them.

import AuctionStore
import Bidding
import Synchronization
import Telemetry

final class BidAPICounters: Sendable {
    /// A number that any thread adds to.
    final class Count: Sendable {
        private let value = Atomic<Int>(0)

        // Relaxed: a scrape needs no order between counters.
        func add(_ amount: Int = 1) { value.add(amount, ordering: .relaxed) }
        var current: Int { value.load(ordering: .relaxed) }
    }

    /// What a bid came to, as the label of `gavelcast_bids_total`.
    enum BidResult: String, CaseIterable {
        case accepted, repeated, tooLow, alreadyHighest, notStarted, ended, ownAuction, notForSale, banned
        case priceChanged, excessDecimals
        case unknownUser, unknownAuction, keyMismatch, rateLimited, unknown

        var label: String {
            rawValue.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
        }

        init(_ outcome: BidTransaction.Outcome) {
            switch outcome {
            case .accepted: self = .accepted
            case .repeated: self = .repeated
            case .banned: self = .banned
            case .unknownBidder: self = .unknownUser
            case .unknownAuction: self = .unknownAuction
            case .otherRequest: self = .keyMismatch
            case .refused(.tooLow): self = .tooLow
            case .refused(.alreadyHighest): self = .alreadyHighest
            case .refused(.notStarted): self = .notStarted
            case .refused(.ended): self = .ended
            case .refused(.ownAuction): self = .ownAuction
            case .refused(.notForSale): self = .notForSale
            case .refused(.priceChanged): self = .priceChanged
            case .refused(.excessDecimals): self = .excessDecimals
            }
        }
    }

    private let bids = BidResult.allCases.map { _ in Count() }
    let createdAuctions = Count()
    let endedOrStarted = Count()
    let uncountedActions = Count()
    /// Lists and histories that the replica has served, and those that it could not.
    let replicaReads = Count()
    let replicaMisses = Count()
    /// From a bid's arrival at its route to its answer.
    let bidSeconds = Histogram(bounds: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    /// Bids decided in one transaction.
    let batchBids = Histogram(bounds: [1, 2, 5, 10, 20, 50, 100, 200])
    /// From the time an auction was due to start or end to the transaction that started or ended it.
    let closerLagSeconds = Histogram(bounds: [0.1, 0.25, 0.5, 1, 2, 5, 10, 60])

    /// Transactions that decide bids, and of each its last round trip, with the writes and COMMIT.
    let transactionSeconds = Histogram(bounds: BidAPICounters.databaseBounds)
    let commitSeconds = Histogram(bounds: BidAPICounters.databaseBounds)
    let routes = RouteTimes()
    /// How long work waits for a connection, by pool.
    let waits = ["general", "bids", "search", "closer"].map {
        (name: $0, wait: Histogram(bounds: BidAPICounters.databaseBounds))
    }

    private static let databaseBounds = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10,
    ]

    /// Counts a wait for a connection of the pool.
    func addWait(_ pool: String, _ duration: Duration) {
        waits.first { $0.name == pool }?.wait.add(duration / .seconds(1))
    }

    func add(_ result: BidResult) { bids[Self.index(result)].add() }
    func current(_ result: BidResult) -> Int { bids[Self.index(result)].current }

    private static func index(_ result: BidResult) -> Int {
        BidResult.allCases.firstIndex(of: result) ?? 0
    }
}
