// Bids wait here by auction. As soon as there is a transaction to spare, all waiting bids of some auctions
// are taken into one: alone, a bid goes at once; in a rush, many share a commit. An auction has one
// transaction under way at a time.

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
        /// Waiting bids of every auction that is ready or under way.
        var waiting: [AuctionID: [Entry]] = [:]
        /// Auctions with waiting bids and no transaction, the longest waiting first.
        var ready: [AuctionID] = []
        /// Auctions whose row was locked. The next transaction blocks on that lock, so it takes no other
        /// auction.
        var alone: Set<AuctionID> = []
        var count = 0
        var transactions = 0
    }

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
        let (isFull, isStarting) = state.withLock { state in
            guard state.count < Limits.waitingBids else { return (true, false) }
            state.count += 1
            if state.waiting[auction] == nil { state.ready.append(auction) }
            state.waiting[auction, default: []].append(entry)
            return (false, Self.startsTransaction(&state))
        }
        if isFull { return entry.resume(.failure(.unavailable("too many bids wait"))) }
        if isStarting { submit() }
    }

    /// Counts one more transaction if there is something for it to do.
    private static func startsTransaction(_ state: inout State) -> Bool {
        guard !state.ready.isEmpty, state.transactions < Limits.bidTransactions else { return false }
        state.transactions += 1
        return true
    }

    private func submit() {
        let accepted = pool.submit { [self] access in
            let batches = take()
            if !batches.isEmpty { decide(batches, access) }
            if finish(batches) { submit() }
        }
        guard !accepted else { return }
        var hasMore = true
        while hasMore {
            let batches = take()
            for entry in batches.flatMap(\.entries) {
                entry.resume(.failure(.unavailable("too many transactions wait")))
            }
            hasMore = finish(batches)
        }
    }

    /// - Parameter isRepeat: whether the batches were decided before in a transaction that was undone.
    private func decide(
        _ batches: [Taken], _ access: borrowing DatabasePool.Access, isRepeat: Bool = false
    ) {
        batchBids.add(Double(batches.reduce(0) { $0 + $1.entries.count }))
        do throws(DatabaseError) {
            let conclusion = try access.use { connection throws(DatabaseError) in
                try BidTransaction.run(
                    connection, batches.map { .init($0.auctionID, $0.entries.map(\.bid)) },
                    antiSniping: antiSniping, answer: answer)
            }
            guard let decision = try Self.resolve(conclusion, access) else {
                // We stood still for too long, or the server did: nothing has happened yet.
                guard !isRepeat else { throw .unavailable("the transaction was undone twice") }
                return decide(batches, access, isRepeat: true)
            }
            if decision.hasEvents { committed() }
            for (batch, outcomes) in zip(batches, decision.outcomes) {
                guard let outcomes else {
                    putBack(batch)
                    continue
                }
                for (entry, outcome) in zip(batch.entries, outcomes) { entry.resume(.success(outcome)) }
            }
        } catch {
            fail(batches, error, access)
        }
    }

    /// What the database refuses is one bid's fault: the others are decided without it.
    private func fail(_ batches: [Taken], _ error: DatabaseError, _ access: borrowing DatabasePool.Access) {
        if case .unavailable = error {
            for entry in batches.flatMap(\.entries) { entry.resume(.failure(error)) }
        } else if batches.count > 1 {
            for batch in batches { putBack(batch) }
        } else if batches[0].entries.count > 1 {
            for entry in batches[0].entries {
                decide([Taken(auctionID: batches[0].auctionID, entries: [entry])], access)
            }
        } else {
            batches[0].entries[0].resume(.failure(error))
        }
    }

    /// What was decided, if it is certain: a COMMIT whose answer was lost is looked up and never guessed.
    /// `nil` when it certainly did not happen.
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

    // MARK: The state

    private struct Taken {
        let auctionID: AuctionID
        let entries: [Entry]
    }

    /// Takes the bids of the next transaction; nothing when the one before took all.
    private func take() -> [Taken] {
        state.withLock { state in
            guard let first = state.ready.first else { return [] }
            let alone = state.alone
            var ids = [first]
            if !alone.contains(first) {
                let others = state.ready.dropFirst().lazy.filter { !alone.contains($0) }
                ids += others.prefix(Limits.auctionsPerTransaction - 1)
            }
            var batches: [Taken] = []
            var left = Limits.bidsPerTransaction
            for id in ids where left > 0 {
                let waiting = state.waiting[id] ?? []
                let entries = Array(waiting.prefix(left))
                state.waiting[id] = Array(waiting.dropFirst(entries.count))
                state.alone.remove(id)
                batches.append(Taken(auctionID: id, entries: entries))
                left -= entries.count
            }
            let taken = Set(batches.map(\.auctionID))
            state.ready.removeAll { taken.contains($0) }
            state.count -= Limits.bidsPerTransaction - left
            return batches
        }
    }

    /// Bids that were not decided go back to where they were.
    private func putBack(_ batch: Taken) {
        state.withLock { state in
            state.waiting[batch.auctionID, default: []].insert(contentsOf: batch.entries, at: 0)
            state.alone.insert(batch.auctionID)
            state.count += batch.entries.count
        }
    }

    /// Ends a transaction; true when its place is taken by the next one.
    private func finish(_ batches: [Taken]) -> Bool {
        state.withLock { state in
            for batch in batches {
                if state.waiting[batch.auctionID]?.isEmpty == false {
                    state.ready.append(batch.auctionID)
                } else {
                    state.waiting[batch.auctionID] = nil
                }
            }
            state.transactions -= 1
            return Self.startsTransaction(&state)
        }
    }
}
