// Decides which bids wait, and which go into the next transaction. An auction has one transaction under way
// at a time. Pure: ``BidQueue`` guards this value with a lock and acts outside the lock.

import AuctionEvents

struct BidBatches<Entry: Sendable>: ~Copyable {
    /// The bounds.
    struct Most: Sendable {
        /// Bids that wait.
        let waiting: Int
        /// Transactions under way.
        let transactions: Int
        /// Bids and auctions in one transaction.
        let bids: Int
        let auctions: Int
    }

    /// The bids of one auction, in order of arrival.
    struct Batch {
        let auctionID: AuctionID
        let entries: [Entry]
    }

    enum Arrival: Equatable {
        /// The queue is full.
        case refused
        /// A transaction under way, or the next one, takes the bid.
        case waits
        /// The caller must start a transaction.
        case starts
    }

    private let most: Most
    /// Waiting bids of every auction that is ready or under way.
    private var waiting: [AuctionID: [Entry]] = [:]
    /// Auctions with waiting bids and no transaction, the longest waiting first.
    private var ready: [AuctionID] = []
    /// Auctions whose row was locked. The next transaction blocks on that lock, so it takes no other auction.
    private var alone: Set<AuctionID> = []
    private var count = 0
    private var transactions = 0

    init(most: Most) {
        self.most = most
    }

    mutating func arrive(_ entry: Entry, on auction: AuctionID) -> Arrival {
        guard count < most.waiting else { return .refused }
        count += 1
        if waiting[auction] == nil { ready.append(auction) }
        waiting[auction, default: []].append(entry)
        return startsTransaction() ? .starts : .waits
    }

    /// Counts one more transaction if there is something for it to do.
    private mutating func startsTransaction() -> Bool {
        guard !ready.isEmpty, transactions < most.transactions else { return false }
        transactions += 1
        return true
    }

    /// Takes the bids for the next transaction. Empty when the previous transaction took them all.
    mutating func take() -> [Batch] {
        guard let first = ready.first else { return [] }
        var ids = [first]
        if !alone.contains(first) {
            let alone = alone
            let others = ready.dropFirst().lazy.filter { !alone.contains($0) }
            ids += others.prefix(most.auctions - 1)
        }
        var batches: [Batch] = []
        var left = most.bids
        for id in ids where left > 0 {
            let all = waiting[id] ?? []
            let entries = Array(all.prefix(left))
            waiting[id] = Array(all.dropFirst(entries.count))
            alone.remove(id)
            batches.append(Batch(auctionID: id, entries: entries))
            left -= entries.count
        }
        let taken = Set(batches.map(\.auctionID))
        ready.removeAll { taken.contains($0) }
        count -= most.bids - left
        return batches
    }

    /// Puts undecided bids back at the front of their auction's queue. The transaction that retries them
    /// takes no other auction.
    mutating func putBack(_ batch: Batch) {
        waiting[batch.auctionID, default: []].insert(contentsOf: batch.entries, at: 0)
        alone.insert(batch.auctionID)
        count += batch.entries.count
    }

    /// Ends a transaction. Returns whether the caller must start the next one.
    mutating func finish(_ batches: [Batch]) -> Bool {
        for batch in batches {
            if waiting[batch.auctionID]?.isEmpty == false {
                ready.append(batch.auctionID)
            } else {
                waiting[batch.auctionID] = nil
            }
        }
        transactions -= 1
        return startsTransaction()
    }
}
