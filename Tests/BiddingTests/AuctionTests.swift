import AuctionEvents
import Bidding
import TestSupport
import Testing

@Suite struct AuctionTests {
    private static let start: Int64 = 1_768_000_000_000
    private let never = AntiSniping(windowMilliseconds: 0, extensionMilliseconds: 1)

    private func auction(
        reserve: Int64? = nil, increments: IncrementTable = IncrementTable(fixed: Money(cents: 100)),
        status: AuctionStatus = .active, seconds: Int64 = 100
    ) -> Auction {
        Auction(
            id: AuctionID("a1")!, sellerID: "seller", currency: .dollars,
            terms: AuctionTerms(
                title: "t", startingPrice: Money(cents: 1_000),
                reservePrice: reserve.map { Money(cents: $0) }, buyNowPrice: nil, increments: increments),
            status: status,
            endsAt: Timestamp(milliseconds: Self.start + seconds * 1_000))
    }

    private func bid(_ bidder: String, _ cents: Int64) -> BidRequest {
        BidRequest(
            bidID: "bid", automaticBidID: "auto", bidderID: bidder, bidder: bidder,
            offer: .plain(Money(cents: cents)))
    }

    private func at(_ milliseconds: Int64) -> Timestamp { Timestamp(milliseconds: Self.start + milliseconds) }

    private func refusal(_ result: Result<BidReceipt, BidRefusal>) -> BidRefusal? {
        if case .failure(let refusal) = result { refusal } else { nil }
    }

    @Test("the first minimum is the starting price, then the price plus the increment")
    func minimums() {
        var auction = auction()
        #expect(
            refusal(auction.place(bid("a", 999), at: at(0), antiSniping: never))
                == .tooLow(currentPrice: Money(cents: 1_000), minimum: Money(cents: 1_000)))
        #expect(refusal(auction.place(bid("a", 1_000), at: at(0), antiSniping: never)) == nil)
        #expect(
            refusal(auction.place(bid("b", 1_099), at: at(1), antiSniping: never))
                == .tooLow(currentPrice: Money(cents: 1_000), minimum: Money(cents: 1_100)))
        #expect(refusal(auction.place(bid("b", 1_100), at: at(1), antiSniping: never)) == nil)
        #expect(auction.currentPrice.cents == 1_100 && auction.bidCount == 2 && auction.sequence == 2)
    }

    @Test("seller, leader, and bids outside the auction's time are refused for their reason")
    func refusals() {
        var active = auction(seconds: 10)
        #expect(refusal(active.place(bid("seller", 5_000), at: at(0), antiSniping: never)) == .ownAuction)
        _ = active.place(bid("a", 1_000), at: at(0), antiSniping: never)
        #expect(refusal(active.place(bid("a", 5_000), at: at(0), antiSniping: never)) == .alreadyHighest)
        #expect(
            refusal(active.place(bid("b", 5_000), at: at(10_000), antiSniping: never)) == .ended(winner: "a"))
        #expect(refusal(active.place(bid("b", 5_000), at: at(9_999), antiSniping: never)) == nil)
        var scheduled = auction(status: .scheduled)
        #expect(refusal(scheduled.place(bid("b", 5_000), at: at(0), antiSniping: never)) == .notStarted)
        var cancelled = auction(status: .cancelled)
        #expect(
            refusal(cancelled.place(bid("b", 5_000), at: at(0), antiSniping: never)) == .ended(winner: nil))
        #expect(cancelled.takeEvents().isEmpty)
    }

    @Test(
        "a late bid extends the end, and its event carries the new end",
        arguments: [
            (69_999, 100_000), (70_000, 190_000), (99_999, 219_999),
        ])
    func extends(at milliseconds: Int64, end: Int64) {
        var auction = auction()
        let rule = AntiSniping(windowMilliseconds: 30_000, extensionMilliseconds: 120_000)
        _ = auction.place(bid("a", 1_000), at: at(milliseconds), antiSniping: rule)
        #expect(auction.endsAt == at(end))
        let events = auction.takeEvents()
        guard case .bidUpdate(let update)? = events.first?.event else {
            Issue.record("no bid event")
            return
        }
        #expect(update.endsAt == at(end))
        if end == 100_000 {
            #expect(events.count == 1)
        } else {
            #expect(events.map(\.sequence) == [1, 2])
            #expect(
                events[1].event
                    == .timeExtended(newEndsAt: at(end), previousEndsAt: at(100_000), reason: .antiSniping))
        }
    }

    @Test("an extension shorter than the time left never brings the end forward")
    func neverShortens() {
        var auction = auction()
        let rule = AntiSniping(windowMilliseconds: 30_000, extensionMilliseconds: 5_000)
        _ = auction.place(bid("a", 1_000), at: at(80_000), antiSniping: rule)
        #expect(auction.endsAt == at(100_000) && auction.takeEvents().count == 1)
    }

    @Test("an auction is sold when the reserve is met, unsold otherwise, and ends once")
    func ends() {
        var unsold = auction(reserve: 5_000)
        _ = unsold.place(bid("a", 4_999), at: at(0), antiSniping: never)
        #expect(!unsold.isReserveMet)
        var sold = unsold
        _ = sold.place(bid("b", 5_100), at: at(1), antiSniping: never)
        for case (var auction, let outcome, let winner) in [
            (unsold, AuctionStatus.unsold, String?.none), (sold, .sold, "b"), (auction(), .unsold, nil),
        ] {
            _ = auction.takeEvents()
            auction.end(at: at(99_999))
            #expect(auction.status == .active && auction.takeEvents().isEmpty, "not before its time")
            auction.end(at: at(100_000))
            auction.end(at: at(100_001))
            let events = auction.takeEvents()
            #expect(auction.status == outcome && events.count == 1)
            guard case .auctionEnded(let ending)? = events.first?.event else {
                Issue.record("no end event")
                continue
            }
            #expect(ending.outcome == outcome && ending.winner?.username == winner)
        }
    }

    @Test("random bidding keeps amounts rising and sequence numbers gapless")
    func keepsOrder() {
        var generator = SeededGenerator.announced("bidding")
        for _ in 0..<200 {
            var auction = auction(increments: IncrementTable(stored: "0:5,5000:100,20000:500", decimals: 2)!)
            var amounts: [Money] = []
            let rule = AntiSniping(windowMilliseconds: 30_000, extensionMilliseconds: 60_000)
            for step in 0..<200 {
                let amount = auction.minimumBid.cents + Int64.random(in: -300...900, using: &generator)
                let bidder = "u\(Int.random(in: 0..<4, using: &generator))"
                if case .success(let accepted) = auction.place(
                    bid(bidder, amount), at: at(Int64(step) * 500), antiSniping: rule)
                {
                    amounts.append(accepted.amount)
                }
            }
            #expect(zip(amounts, amounts.dropFirst()).allSatisfy { $0 < $1 })
            #expect(auction.bidCount == amounts.count)
            #expect(auction.topBids.map(\.amount) == amounts.reversed().prefix(10).map { $0 })
            let events = auction.takeEvents()
            #expect(events.map(\.sequence) == (0..<events.count).map { UInt64($0 + 1) })
        }
    }

    @Test("increment tables take the last row at or below the price, and refuse nonsense")
    func increments() {
        let table = IncrementTable(stored: "0:5,100:25,2500:50", decimals: 2)
        for (price, increment) in [(0, 5), (99, 5), (100, 25), (2_499, 25), (2_500, 50), (99_999, 50)] {
            #expect(table?.increment(at: Money(cents: Int64(price))).cents == Int64(increment))
        }
        #expect(table?.stored == "0:5,100:25,2500:50")
        for bad in ["", "1:5", "0:0", "0:5,0:6", "0:5,100:25,50:1"] {
            #expect(IncrementTable(stored: bad, decimals: 2) == nil)
        }
    }
}
