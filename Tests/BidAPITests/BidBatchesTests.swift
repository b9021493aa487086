import AuctionEvents
import TestSupport
import Testing

@testable import BidAPI

/// Which bids a transaction takes.
@Suite struct BidBatchesTests {
    private static let auctions = ["a", "b", "c", "d"].compactMap { AuctionID($0) }

    private static func batches(
        waiting: Int = 100, transactions: Int = 1, bids: Int = 10, auctions: Int = 3
    ) -> BidBatches<Int> {
        BidBatches(
            most: .init(waiting: waiting, transactions: transactions, bids: bids, auctions: auctions))
    }

    private static func shown(_ taken: [BidBatches<Int>.Batch]) -> [String] {
        taken.map { "\($0.auctionID.text)\($0.entries)" }
    }

    @Test("alone a bid goes at once; in a rush many auctions share a transaction, the longest waiting first")
    func sharing() {
        var batches = Self.batches()
        #expect(batches.arrive(1, on: Self.auctions[0]) == .starts)
        #expect(Self.shown(batches.take()) == ["a[1]"])
        for number in 2...5 { #expect(batches.arrive(number, on: Self.auctions[number % 3]) == .waits) }
        #expect(batches.finish([.init(auctionID: Self.auctions[0], entries: [1])]) == true)
        #expect(Self.shown(batches.take()) == ["c[2, 5]", "b[4]", "a[3]"])
    }

    @Test("an auction under way is not taken again before its transaction is finished")
    func oneAtATime() {
        var batches = Self.batches(transactions: 2)
        _ = batches.arrive(1, on: Self.auctions[0])
        let first = batches.take()
        #expect(batches.arrive(2, on: Self.auctions[0]) == .waits)
        #expect(batches.take().isEmpty)
        #expect(batches.finish(first) == true)
        #expect(Self.shown(batches.take()) == ["a[2]"])
    }

    @Test("bids whose row was locked come first again, in order, in a transaction of their own")
    func lockedRow() {
        var batches = Self.batches()
        for number in 1...2 { _ = batches.arrive(number, on: Self.auctions[0]) }
        _ = batches.arrive(3, on: Self.auctions[1])
        let taken = batches.take()
        _ = batches.arrive(4, on: Self.auctions[0])
        _ = batches.arrive(5, on: Self.auctions[1])
        batches.putBack(taken[0])
        #expect(batches.finish(taken) == true)
        #expect(Self.shown(batches.take()) == ["a[1, 2, 4]"])
    }

    @Test("the number of waiting bids is bounded, and taking a bid makes room")
    func bound() {
        var batches = Self.batches(waiting: 2)
        #expect(batches.arrive(1, on: Self.auctions[0]) == .starts)
        #expect(batches.arrive(2, on: Self.auctions[0]) == .waits)
        #expect(batches.arrive(3, on: Self.auctions[0]) == .refused)
        _ = batches.take()
        #expect(batches.arrive(3, on: Self.auctions[0]) == .waits)
    }

    @Test("a transaction takes no more bids and auctions than it may, and leaves the rest in order")
    func transactionBounds() {
        var batches = Self.batches(bids: 3, auctions: 2)
        for number in 1...4 { _ = batches.arrive(number, on: Self.auctions[0]) }
        for index in 1...3 { _ = batches.arrive(10 + index, on: Self.auctions[index]) }
        let first = batches.take()
        #expect(Self.shown(first) == ["a[1, 2, 3]"])
        #expect(batches.finish(first) == true)
        #expect(Self.shown(batches.take()) == ["b[11]", "c[12]"])
    }

    @Test(
        "at random: every bid is decided once, each auction's in order, with no more transactions than allowed"
    )
    func random() {
        var generator = SeededGenerator.announced("bid batches")
        var batches = Self.batches(waiting: 50, transactions: 2, bids: 5, auctions: 2)
        var running: [[BidBatches<Int>.Batch]] = []
        var starting = 0
        var decided: [String: [Int]] = [:]
        var accepted: [String: [Int]] = [:]
        for number in 0..<20_000 {
            if Bool.random(using: &generator) {
                guard let auction = Self.auctions.randomElement(using: &generator) else { return }
                let arrival = batches.arrive(number, on: auction)
                if arrival != .refused { accepted[auction.text, default: []].append(number) }
                if arrival == .starts { starting += 1 }
            } else if starting > 0 {
                starting -= 1
                running.append(batches.take())
            } else if let index = running.indices.randomElement(using: &generator) {
                let taken = running.remove(at: index)
                for batch in taken {
                    if Int.random(in: 0..<5, using: &generator) == 0 {
                        batches.putBack(batch)
                    } else {
                        decided[batch.auctionID.text, default: []] += batch.entries
                    }
                }
                if batches.finish(taken) { starting += 1 }
            }
            #expect(running.count + starting <= 2)
        }
        while starting > 0 || !running.isEmpty {
            if starting > 0 {
                starting -= 1
                running.append(batches.take())
            }
            guard let taken = running.popLast() else { continue }
            for batch in taken { decided[batch.auctionID.text, default: []] += batch.entries }
            if batches.finish(taken) { starting += 1 }
        }
        #expect(decided == accepted)
    }
}
