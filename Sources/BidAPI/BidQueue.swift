// Queues bids by auction. As soon as a transaction is free, it takes the waiting bids of several auctions. A
// single bid goes at once; in a rush, many bids share a commit. An auction has one transaction under way at a
// time.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Reactor
import Synchronization
import Telemetry

final class BidQueue: Sendable {
    private typealias Outcome = Result<BidTransaction.Outcome, DatabaseError>

    private struct Entry {
        let bid: BidTransaction.Waiting
        let resume: @Sendable (Outcome) -> Void
    }

    private typealias Batch = BidBatches<Entry>.Batch

    private let batches = Mutex(
        BidBatches<Entry>(
            most: .init(
                waiting: Limits.waitingBids, transactions: Limits.bidTransactions,
                bids: Limits.bidsPerTransaction, auctions: Limits.auctionsPerTransaction)))
    private let pool: DatabasePool
    private let antiSniping: AntiSniping
    private let answer: @Sendable (BidTransaction.Outcome) -> KeptAnswer
    private let committed: @Sendable () -> Void
    private let counters: BidAPICounters
    private let traces: Traces

    /// - Parameters:
    ///   - answer: returns the answer to an outcome, which is kept for repeats of the request.
    ///   - committed: called after each transaction that wrote events.
    ///   - counters: of transactions.
    ///   - traces: of bids that are traced.
    init(
        pool: DatabasePool, antiSniping: AntiSniping,
        answer: @escaping @Sendable (BidTransaction.Outcome) -> KeptAnswer, counters: BidAPICounters,
        traces: Traces, committed: @escaping @Sendable () -> Void
    ) {
        self.pool = pool
        self.antiSniping = antiSniping
        self.answer = answer
        self.committed = committed
        self.counters = counters
        self.traces = traces
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
        switch batches.withLock({ $0.arrive(entry, on: auction) }) {
        case .refused: entry.resume(.failure(.unavailable("too many bids wait")))
        case .waits: break
        case .starts: submit()
        }
    }

    private func submit() {
        let accepted = pool.submit { [self] access in
            let taken = batches.withLock { $0.take() }
            if !taken.isEmpty { decide(taken, access) }
            if batches.withLock({ $0.finish(taken) }) { submit() }
        }
        guard !accepted else { return }
        var hasMore = true
        while hasMore {
            let taken = batches.withLock { $0.take() }
            for entry in taken.flatMap(\.entries) {
                entry.resume(.failure(.unavailable("too many transactions wait")))
            }
            hasMore = batches.withLock { $0.finish(taken) }
        }
    }

    /// - Parameter isRepeat: true when an earlier transaction decided these batches and was undone.
    private func decide(
        _ batches: [Batch], _ access: borrowing DatabasePool.Access, isRepeat: Bool = false
    ) {
        counters.batchBids.add(Double(batches.reduce(0) { $0 + $1.entries.count }))
        let start = ContinuousClock.now
        let wall = Clock.wallMicroseconds()
        defer { counters.transactionSeconds.add((ContinuousClock.now - start) / .seconds(1)) }
        do throws(DatabaseError) {
            let conclusion = try access.use { connection throws(DatabaseError) in
                try BidTransaction.run(
                    connection, batches.map { .init($0.auctionID, $0.entries.map(\.bid)) },
                    antiSniping: antiSniping, answer: answer)
            }
            guard let decision = try Self.resolve(conclusion, access) else {
                // This process or the server stalled for too long, and nothing was committed.
                guard !isRepeat else { throw .unavailable("the transaction was undone twice") }
                return decide(batches, access, isRepeat: true)
            }
            if let duration = decision.commitDuration { counters.commitSeconds.add(duration / .seconds(1)) }
            if decision.hasEvents { committed() }
            trace(batches, decision, from: wall)
            for (batch, outcomes) in zip(batches, decision.outcomes) {
                guard let outcomes else {
                    self.batches.withLock { $0.putBack(batch) }
                    continue
                }
                for (entry, outcome) in zip(batch.entries, outcomes) { entry.resume(.success(outcome)) }
            }
        } catch {
            fail(batches, error, access)
        }
    }

    /// - Parameter start: of the transaction, in microseconds since 1970.
    private func trace(_ batches: [Batch], _ decision: BidTransaction.Decision, from start: Int64) {
        guard traces.writesSpans else { return }
        // Batches without outcomes are decided by another transaction.
        let entries = zip(batches, decision.outcomes).filter { $1 != nil }.flatMap(\.0.entries)
        for context in entries.compactMap(\.bid.trace) {
            traces.step("transaction", of: context, from: start, [("gavelcast.bids", .number(entries.count))])
            guard let duration = decision.commitDuration else { continue }
            let commitStart = Clock.wallMicroseconds() - Int64(duration / .microseconds(1))
            traces.step("commit", .client, of: context, from: max(start, commitStart))
        }
    }

    /// Handles a failed transaction. If the database refused it, one bid is at fault. The other bids are
    /// decided without that bid.
    private func fail(_ batches: [Batch], _ error: DatabaseError, _ access: borrowing DatabasePool.Access) {
        if case .unavailable = error {
            for entry in batches.flatMap(\.entries) { entry.resume(.failure(error)) }
        } else if batches.count > 1 {
            self.batches.withLock { waiting in
                for batch in batches { waiting.putBack(batch) }
            }
        } else if batches[0].entries.count > 1 {
            for entry in batches[0].entries {
                decide([Batch(auctionID: batches[0].auctionID, entries: [entry])], access)
            }
        } else {
            batches[0].entries[0].resume(.failure(error))
        }
    }

    /// Returns the decision if it was certainly committed, and `nil` if it certainly was not. If the answer
    /// to COMMIT was lost, asks PostgreSQL for the outcome and never guesses.
    private static func resolve(
        _ conclusion: BidTransaction.Conclusion, _ access: borrowing DatabasePool.Access
    ) throws(DatabaseError) -> BidTransaction.Decision? {
        switch conclusion {
        case .certain(let decision): return decision
        case .uncertain(let decision, let trace):
            let deadline = ContinuousClock.now + Limits.resolving
            while ContinuousClock.now < deadline {
                Thread.sleep(forTimeInterval: Limits.resolvePauseSeconds)
                let isCommitted = try? access.use { connection throws(DatabaseError) in
                    try BidTransaction.resolve(connection, trace)
                }
                switch isCommitted {
                case true?: return decision
                case false?: return nil
                case nil: continue
                }
            }
            throw .unavailable("whether the transaction was committed is not known")
        }
    }
}
