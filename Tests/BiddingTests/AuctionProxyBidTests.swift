import AuctionEvents
import Bidding
import TestSupport
import Testing

/// Maxima, their ties and raises, the reserve and buying at once. Amounts are in cents; increments are 100.
@Suite struct AuctionProxyBidTests {
    private static let start: Int64 = 1_768_000_000_000
    private let never = AntiSniping(windowMilliseconds: 0, extensionMilliseconds: 1)

    private func auction(reserve: Int64? = nil, buyNow: Int64? = nil) -> Auction {
        Auction(
            id: AuctionID("a1")!, sellerID: "seller", currency: .dollars,
            terms: AuctionTerms(
                title: "t", startingPrice: Money(cents: 1_000),
                reservePrice: reserve.map { Money(cents: $0) },
                buyNowPrice: buyNow.map { Money(cents: $0) },
                increments: IncrementTable(fixed: Money(cents: 100))),
            status: .active, endsAt: Timestamp(milliseconds: Self.start + 100_000))
    }

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: Self.start + seconds * 1_000) }

    /// Decides an offer and tells what came of it in few words: the price and the leader, the rows and the
    /// answer.
    private func place(
        _ auction: inout Auction, _ bidder: String, _ offer: BidRequest.Offer, at seconds: Int64 = 0
    ) -> String {
        let request = BidRequest(
            bidID: bidder, automaticBidID: "auto", bidderID: bidder, bidder: bidder, offer: offer)
        let answer =
            switch auction.place(request, at: at(seconds), antiSniping: never) {
            case .success(let receipt): "\(receipt.amount.cents) rank \(receipt.rank)"
            case .failure(.tooLow(_, let minimum)): "too low, \(minimum.cents)"
            case .failure(let refusal): "\(refusal)"
            }
        let rows = auction.takeBids().map { "\($0.bidder) \($0.amount.cents)\($0.isProxy ? "*" : "")" }
        return
            "\(answer) [\(rows.joined(separator: ", "))] \(auction.leader?.userID ?? "-") \(auction.currentPrice.cents)"
    }

    private func money(_ cents: Int64) -> Money { Money(cents: cents) }
    private func proxy(_ cents: Int64) -> BidRequest.Offer { .proxy(maximum: Money(cents: cents)) }

    @Test("the first maximum opens at the starting price")
    func opens() {
        var auction = auction()
        #expect(place(&auction, "a", proxy(999)) == "too low, 1000 [] - 1000")
        #expect(place(&auction, "a", proxy(5_000)) == "1000 rank 1 [a 1000*] a 1000")
        #expect(auction.leaderMaximum == money(5_000))
    }

    @Test("a beaten challenger is written at the amount or maximum, then one automatic bid of the leader")
    func beaten() {
        var auction = auction()
        _ = place(&auction, "a", proxy(5_000))
        #expect(place(&auction, "b", .plain(money(2_000))) == "2000 rank 2 [b 2000, a 2100*] a 2100")
        #expect(place(&auction, "c", proxy(3_000)) == "3000 rank 2 [c 3000*, a 3100*] a 3100")
        let limited = BidRequest.Offer.limited(money(3_200), maximum: money(4_000))
        #expect(place(&auction, "d", limited) == "4000 rank 2 [d 4000*, a 4100*] a 4100")
        // No more than the maximum, although an increment would be.
        #expect(place(&auction, "e", .plain(money(4_950))) == "4950 rank 2 [e 4950, a 5000*] a 5000")
        #expect(auction.bidCount == 9)
    }

    @Test("a higher maximum leads one increment above the second-highest, at most at its own")
    func leads() {
        var auction = auction()
        _ = place(&auction, "a", proxy(5_000))
        #expect(place(&auction, "b", proxy(9_000)) == "5100 rank 1 [b 5100*] b 5100")
        #expect(place(&auction, "c", proxy(9_050)) == "9050 rank 1 [c 9050*] c 9050")
        #expect(place(&auction, "d", .plain(money(20_000))) == "20000 rank 1 [d 20000] d 20000")
        let limited = BidRequest.Offer.limited(money(25_000), maximum: money(40_000))
        #expect(place(&auction, "e", limited) == "25000 rank 1 [e 25000] e 25000")
        #expect(
            place(&auction, "f", .limited(money(26_000), maximum: money(50_000)))
                == "40100 rank 1 [f 40100*] f 40100")
    }

    @Test("of two equal maxima the earlier stands, bid in full, and the later is refused")
    func ties() {
        var auction = auction()
        _ = place(&auction, "a", proxy(5_000))
        #expect(place(&auction, "b", proxy(5_000)) == "too low, 5100 [a 5000*] a 5000")
        #expect(place(&auction, "c", .plain(money(5_000))) == "too low, 5100 [] a 5000")
    }

    @Test("raising the leader's maximum moves no price or end; a lower maximum or a plain bid is refused")
    func raises() {
        var auction = auction()
        _ = place(&auction, "a", proxy(5_000))
        _ = auction.takeEvents()
        #expect(place(&auction, "a", proxy(8_000)) == "1000 rank 1 [] a 1000")
        #expect(auction.takeEvents().isEmpty && auction.isChanged && auction.bidCount == 1)
        #expect(place(&auction, "a", proxy(8_000)) == "too low, 8001 [] a 1000")
        #expect(place(&auction, "a", proxy(2_000)) == "too low, 8001 [] a 1000")
        #expect(place(&auction, "a", .plain(money(9_000))) == "alreadyHighest [] a 1000")
        #expect(place(&auction, "b", proxy(7_000)) == "7000 rank 2 [b 7000*, a 7100*] a 7100")
    }

    @Test("a maximum that reaches the reserve bids at least the reserve; one that does not leaves it unmet")
    func reserve() {
        var auction = auction(reserve: 3_000)
        #expect(place(&auction, "a", proxy(2_000)) == "1000 rank 1 [a 1000*] a 1000" && !auction.isReserveMet)
        #expect(place(&auction, "b", proxy(6_000)) == "3000 rank 1 [b 3000*] b 3000" && auction.isReserveMet)
        #expect(place(&auction, "c", proxy(3_500)) == "3500 rank 2 [c 3500*, b 3600*] b 3600")
    }

    @Test("a leader whose maximum passes an unmet reserve bids the reserve; raising it again moves nothing")
    func raisesToReserve() {
        var auction = auction(reserve: 3_000)
        _ = place(&auction, "a", proxy(2_000))
        #expect(place(&auction, "a", proxy(2_500)) == "1000 rank 1 [] a 1000" && !auction.isReserveMet)
        #expect(place(&auction, "a", proxy(5_000)) == "3000 rank 1 [a 3000*] a 3000" && auction.isReserveMet)
        #expect(place(&auction, "a", proxy(8_000)) == "3000 rank 1 [] a 3000")
        #expect(auction.bidCount == 2)
    }

    @Test("buying ends the auction in the same breath, while the price is below")
    func buysNow() {
        var none = auction()
        #expect(place(&none, "a", .buyNow()) == "notForSale [] - 1000")
        var bought = auction(buyNow: 4_000)
        _ = place(&bought, "a", proxy(3_000))
        _ = bought.takeEvents()
        #expect(
            place(&bought, "b", .buyNow(agreed: money(3_900)))
                == "priceChanged(buyNowPrice: 40) [] a 1000")
        #expect(place(&bought, "b", .buyNow(agreed: money(4_000)), at: 5) == "4000 rank 1 [b 4000] b 4000")
        let events = bought.takeEvents()
        #expect(events.map(\.sequence) == [2, 3] && bought.status == .sold && bought.endsAt == at(5))
        guard case .auctionEnded(let ending)? = events.last?.event else {
            Issue.record("no end")
            return
        }
        #expect(
            ending.winner?.userID == "b" && ending.winner?.amount == money(4_000) && ending.totalBids == 2)
        #expect(place(&bought, "c", proxy(9_000), at: 6) == "ended(winner: Optional(\"b\")) [] b 4000")
        var dear = auction(buyNow: 4_000)
        _ = place(&dear, "a", .plain(money(4_000)))
        #expect(place(&dear, "b", .buyNow()) == "too low, 4100 [] a 4000")
        #expect(place(&dear, "seller", .buyNow()) == "ownAuction [] a 4000")
    }

    @Test("an automatic bid in the last moments extends once, and the first of the two rows carries it")
    func extends() {
        var auction = auction()
        let rule = AntiSniping(windowMilliseconds: 30_000, extensionMilliseconds: 120_000)
        let request = { (bidder: String, offer: BidRequest.Offer) in
            BidRequest(bidID: bidder, automaticBidID: "auto", bidderID: bidder, bidder: bidder, offer: offer)
        }
        _ = auction.place(request("a", proxy(5_000)), at: at(1), antiSniping: rule)
        _ = auction.takeEvents()
        _ = auction.place(request("b", .plain(money(2_000))), at: at(90), antiSniping: rule)
        let events = auction.takeEvents()
        #expect(events.map(\.sequence) == [2, 3, 4])
        #expect(
            events[1].event
                == .timeExtended(newEndsAt: at(210), previousEndsAt: at(100), reason: .antiSniping))
        guard case .bidUpdate(let update) = events[2].event else {
            Issue.record("the automatic bid comes last")
            return
        }
        #expect(update.isProxy && update.endsAt == at(210) && update.amount == money(2_100))
    }

    @Test(
        "whatever is offered, amounts rise strictly, sequence numbers have no gap, and maxima give the price"
    )
    func randomly() {
        var generator = SeededGenerator.announced("proxy bids")
        for _ in 0..<2_000 {
            var auction = auction(reserve: Bool.random(using: &generator) ? 2_500 : nil)
            var maxima: [String: Int64] = [:]
            var amounts: [Int64] = []
            var sequence: SequenceNumber = 0
            // Of maxima alone, the price follows; amounts that are named may be higher.
            let onlyMaxima = Bool.random(using: &generator)
            var price: Int64 = 1_000
            for _ in 0..<Int.random(in: 1...12, using: &generator) {
                let bidder = ["a", "b", "c", "d"].randomElement(using: &generator)!
                let amount = Int64.random(in: 9...40, using: &generator) * 100
                let maximum = amount + Int64.random(in: 0...15, using: &generator) * 50
                let offers: [BidRequest.Offer] = [
                    .plain(money(amount)), .limited(money(amount), maximum: money(maximum)), proxy(maximum),
                ]
                let offer = onlyMaxima ? offers[2] : offers.randomElement(using: &generator)!
                let wasLeader = auction.leader?.userID
                let known = auction.leaderMaximum?.cents
                let minimum = auction.minimumBid.cents
                let request = BidRequest(
                    bidID: "x", automaticBidID: "auto", bidderID: bidder, bidder: bidder, offer: offer)
                let result = auction.place(request, at: at(1), antiSniping: never)
                amounts += auction.takeBids().map(\.amount.cents)
                for made in auction.takeEvents() {
                    sequence += 1
                    #expect(made.sequence == sequence)
                }
                if onlyMaxima {
                    // The second-highest maximum and an increment, but no more than the highest; and the
                    // reserve.
                    if let known, bidder != wasLeader, maximum >= minimum {
                        price = min(max(known, maximum), min(known, maximum) + 100)
                    }
                    let reserve = auction.terms.reservePrice?.cents ?? 0
                    if auction.leaderMaximum?.cents ?? 0 >= reserve { price = max(price, reserve) }
                    #expect(auction.currentPrice.cents == price)
                }
                guard case .success(let receipt) = result else { continue }
                let limit = if case .plain = offer { amount } else { maximum }
                maxima[bidder] = max(maxima[bidder] ?? 0, limit)
                #expect(receipt.currentPrice == auction.currentPrice)
                // Whoever has gone furthest leads; of equals the earlier one.
                let highest = maxima.values.max() ?? 0
                #expect(maxima[auction.leader?.userID ?? ""] == highest)
                if wasLeader != bidder { #expect((receipt.rank == 1) == (auction.leader?.userID == bidder)) }
                #expect(auction.leaderMaximum?.cents == highest && auction.currentPrice.cents <= highest)
            }
            #expect(zip(amounts, amounts.dropFirst()).allSatisfy { $0 < $1 })
            #expect(auction.bidCount == amounts.count)
        }
    }
}
