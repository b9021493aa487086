// Bids wait here by auction. As soon as an auction has no transaction under way, all its waiting bids are taken into
// one: alone, a bid goes at once; in a rush, many share a commit.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Synchronization
import Telemetry

final class BidQueue: Sendable {
    private typealias Outcome = Result<BidTransaction.Outcome, DatabaseError>

    private struct Entry {
        let bid: BidTransaction.Waiting
        let resume: @Sendable (Outcome) -> Void
    }

    private struct State {
        /// Waiting bids of every auction that has a transaction under way or queued.
        var waiting: [AuctionID: [Entry]] = [:]
        var count = 0
    }

    /// Bids in one transaction.
    private static let batchLimit = 200
    /// Bids that wait, over all auctions.
    private static let waitingLimit = 20_000
    /// How long and how often it is asked what became of a COMMIT that was not answered: a server that was killed is back
    /// after a second or two.
    private static let resolveTime = Duration.seconds(4)
    private static let resolvePauseSeconds = 0.2

    private let state = Mutex(State())
    private let pool: DatabasePool
    private let antiSniping: AntiSniping
    private let answer: @Sendable (BidTransaction.Outcome) -> KeptAnswer
    private let committed: @Sendable () -> Void
    private let batchBids: Histogram

    /// - Parameters:
    ///   - answer: what an outcome is answered with, to be kept for repeats.
    ///   - committed: called after each transaction that brought events.
    ///   - batchBids: told how many bids each transaction decided.
    init(
        pool: DatabasePool, antiSniping: AntiSniping,
        answer: @escaping @Sendable (BidTransaction.Outcome) -> KeptAnswer, batchBids: Histogram,
        committed: @escaping @Sendable () -> Void
    ) {
        self.pool = pool
        self.antiSniping = antiSniping
        self.answer = answer
        self.committed = committed
        self.batchBids = batchBids
    }

    /// Waits until the bid is decided and, if accepted, on disk.
    func place(
        _ bid: BidTransaction.Waiting, on auction: AuctionID
    ) async throws(DatabaseError) -> BidTransaction.Outcome {
        let outcome: Outcome = await withCheckedContinuation { continuation in
            enqueue(Entry(bid: bid) { continuation.resume(returning: $0) }, auction)
        }
        return try outcome.get()
    }

    private func enqueue(_ entry: Entry, _ auction: AuctionID) {
        let (isFull, isFirst) = state.withLock { state in
            guard state.count < Self.waitingLimit else { return (true, false) }
            state.count += 1
            let isFirst = state.waiting[auction] == nil
            state.waiting[auction, default: []].append(entry)
            return (false, isFirst)
        }
        if isFull { return entry.resume(.failure(.unavailable("too many bids wait"))) }
        if isFirst { submit(auction) }
    }

    private func submit(_ auction: AuctionID) {
        let accepted = pool.submit { [self] access in
            let batch = take(auction)
            batchBids.add(Double(batch.count))
            do throws(DatabaseError) {
                let conclusion = try access.use { connection throws(DatabaseError) in
                    try BidTransaction.run(
                        connection, auction, batch.map(\.bid), antiSniping: antiSniping, answer: answer)
                }
                let decision = try Self.resolve(conclusion, access)
                if decision.hasEvents { committed() }
                for (entry, outcome) in zip(batch, decision.outcomes) { entry.resume(.success(outcome)) }
            } catch {
                for entry in batch { entry.resume(.failure(error)) }
            }
            if hasMore(auction) { submit(auction) }
        }
        guard !accepted else { return }
        repeat {
            for entry in take(auction) { entry.resume(.failure(.unavailable("too many transactions wait"))) }
        } while hasMore(auction)
    }

    /// What was decided, if it is certain: a COMMIT whose answer was lost is looked up and never guessed.
    private static func resolve(
        _ conclusion: BidTransaction.Conclusion, _ access: borrowing DatabasePool.Access
    ) throws(DatabaseError) -> BidTransaction.Decision {
        switch conclusion {
        case .certain(let decision): return decision
        case .uncertain(let decision, let transaction):
            let deadline = ContinuousClock.now + resolveTime
            while ContinuousClock.now < deadline {
                Thread.sleep(forTimeInterval: resolvePauseSeconds)
                let isCommitted = try? access.use { connection throws(DatabaseError) in
                    try BidTransaction.resolve(connection, transaction: transaction)
                }
                switch isCommitted {
                case true?: return decision
                case false?: throw .unavailable("the transaction was rolled back")
                case nil: continue
                }
            }
            throw .unavailable("whether the transaction was committed is not known")
        }
    }

    private func take(_ auction: AuctionID) -> [Entry] {
        state.withLock { state in
            let waiting = state.waiting[auction] ?? []
            let batch = Array(waiting.prefix(Self.batchLimit))
            state.waiting[auction] = Array(waiting.dropFirst(batch.count))
            state.count -= batch.count
            return batch
        }
    }

    /// Whether bids arrived meanwhile; when not, the auction is forgotten until its next bid.
    private func hasMore(_ auction: AuctionID) -> Bool {
        state.withLock { state in
            guard state.waiting[auction]?.isEmpty != false else { return true }
            state.waiting[auction] = nil
            return false
        }
    }
}
