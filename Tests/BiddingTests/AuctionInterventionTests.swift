import AuctionEvents
import Bidding
import TestSupport
import Testing

/// What sellers and administrators change, and who is told of what happened.
@Suite struct AuctionInterventionTests {
    private static let start: Int64 = 1_768_000_000_000
    private let never = AntiSniping(windowMilliseconds: 0, extensionMilliseconds: 1)
    private let terms = AuctionTerms(
        title: "t", startingPrice: Money(cents: 1_000), reservePrice: nil, buyNowPrice: Money(cents: 9_000),
        increments: IncrementTable(fixed: Money(cents: 100)))

    private func auction(_ status: AuctionStatus = .active, reserve: Int64? = nil) -> Auction {
        var terms = terms
        terms.reservePrice = reserve.map { Money(cents: $0) }
        return Auction(
            id: AuctionID("a1")!, sellerID: "seller", currency: .dollars, terms: terms, status: status,
            endsAt: at(100))
    }

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: Self.start + seconds * 1_000) }

    private func schedule(_ start: Int64, _ end: Int64) -> AuctionSchedule {
        AuctionSchedule(startsAt: at(start), endsAt: at(end))
    }

    private func bid(_ auction: inout Auction, _ bidder: String, _ offer: BidRequest.Offer) {
        let request = BidRequest(
            bidID: "b", automaticBidID: "auto", bidderID: bidder, bidder: bidder, offer: offer)
        _ = auction.place(request, at: at(1), antiSniping: never)
    }

    private func told(_ auction: inout Auction) -> [String] {
        let (notices, endsForBidders) = auction.takeNotices()
        return notices.map { "\($0.kind.rawValue) \($0.userID) \($0.amount?.cents ?? 0)" }
            + (endsForBidders ? ["all"] : [])
    }

    // MARK: Sellers

    @Test("the seller changes an auction that has no bids; the event carries the new state")
    func update() {
        var auction = auction()
        var new = terms
        new.title = "other"
        new.startingPrice = Money(cents: 2_000)
        #expect(auction.update(new, schedule(0, 200), by: "seller", at: at(1)) == nil)
        #expect(auction.currentPrice.cents == 2_000 && auction.endsAt == at(200))
        let events = auction.takeEvents()
        guard case .auctionUpdated(let state)? = events.first?.event else {
            Issue.record("\(events)")
            return
        }
        #expect(state.title == "other" && state.startingPrice.cents == 2_000 && events[0].sequence == 1)
    }

    @Test("only the seller changes an auction, and nobody after the first bid or the end")
    func refusals() {
        var auction = auction()
        #expect(auction.withdraw(by: "ava", at: at(1)) == .notSeller)
        #expect(auction.update(terms, schedule(0, 200), by: "ava", at: at(1)) == .notSeller)
        #expect(auction.withdraw(by: "seller", at: at(100)) == .ended(winner: nil))
        bid(&auction, "ava", .plain(Money(cents: 1_000)))
        #expect(auction.withdraw(by: "seller", at: at(2)) == .hasBids)
        #expect(auction.update(terms, schedule(0, 200), by: "seller", at: at(2)) == .hasBids)
        #expect(auction.cancel(at: at(100)) == .ended(winner: "ava"))
        auction.end(at: at(100))
        #expect(auction.withdraw(by: "seller", at: at(101)) == .ended(winner: "ava"))
        #expect(auction.extend(to: at(300), startsAt: at(0), at: at(101)) == .ended(winner: "ava"))
    }

    @Test("new terms and times are held to the rules of a new auction")
    func faults() {
        func refusal(
            _ schedule: AuctionSchedule, _ status: AuctionStatus = .active,
            _ change: (inout AuctionTerms) -> Void = { _ in }
        ) -> ChangeRefusal? {
            var auction = auction(status)
            var new = terms
            change(&new)
            defer { #expect(auction.takeEvents().isEmpty) }
            return auction.update(new, schedule, by: "seller", at: at(50))
        }
        #expect(refusal(schedule(0, 200)) { $0.startingPrice = Money(cents: 0) } == .terms(.noStartingPrice))
        #expect(
            refusal(schedule(0, 200)) { $0.reservePrice = Money(cents: 999) } == .terms(.reserveBelowStart))
        #expect(
            refusal(schedule(0, 200)) { $0.buyNowPrice = Money(cents: 1_000) } == .terms(.buyNowNotAboveStart)
        )
        #expect(
            refusal(schedule(0, 200)) { $0.reservePrice = Money(cents: 9_001) } == .terms(.buyNowBelowReserve)
        )
        #expect(refusal(schedule(0, 50)) == .schedule(.endsBeforeStart))
        #expect(refusal(schedule(0, 90 * 86_400 + 1)) == .schedule(.tooLong))
        #expect(refusal(schedule(-100, 200), .scheduled) == .schedule(.startsInThePast))
    }

    @Test("a withdrawn auction is cancelled, once")
    func withdraw() {
        var auction = auction(.scheduled)
        #expect(auction.withdraw(by: "seller", at: at(1)) == nil)
        #expect(auction.status == .cancelled && auction.takeEvents().count == 1)
        #expect(auction.withdraw(by: "seller", at: at(2)) == .ended(winner: nil))
        #expect(told(&auction) == ["AUCTION_UNSOLD seller 0", "all"])
    }

    // MARK: Administrators

    @Test("an administrator cancels an auction with bids, which then has no winner")
    func cancel() {
        var auction = auction()
        bid(&auction, "ava", .plain(Money(cents: 1_000)))
        _ = auction.takeEvents()
        #expect(auction.cancel(at: at(2)) == nil)
        let ending = AuctionEvent.Ending(outcome: .cancelled, winner: nil, totalBids: 1)
        #expect(auction.takeEvents().map(\.event) == [.auctionEnded(ending)])
        #expect(told(&auction) == ["AUCTION_UNSOLD seller 1000", "all"])
    }

    @Test("an administrator moves the end, to a later time only")
    func extend() {
        var auction = auction()
        #expect(auction.extend(to: at(100), startsAt: at(0), at: at(1)) == .endNotLater)
        #expect(
            auction.extend(to: at(91 * 86_400), startsAt: at(0), at: at(1)) == .schedule(.tooLong))
        #expect(auction.extend(to: at(300), startsAt: at(0), at: at(1)) == nil)
        #expect(
            auction.takeEvents().map(\.event)
                == [.timeExtended(newEndsAt: at(300), previousEndsAt: at(100), reason: .admin)])
    }

    // MARK: Notices

    @Test("an outbid leader is told once, with the leading price")
    func outbid() {
        var auction = auction()
        bid(&auction, "ava", .plain(Money(cents: 1_000)))
        #expect(told(&auction) == [])
        bid(&auction, "bruno", .plain(Money(cents: 1_100)))
        bid(&auction, "ava", .plain(Money(cents: 1_200)))
        bid(&auction, "bruno", .plain(Money(cents: 1_300)))
        #expect(told(&auction) == ["OUTBID ava 1300"])
        bid(&auction, "chen", .proxy(maximum: Money(cents: 3_000)))
        #expect(told(&auction) == ["OUTBID bruno 1400"])
        // A challenger whom the leader's maximum beats at once is told too.
        bid(&auction, "dora", .proxy(maximum: Money(cents: 2_000)))
        #expect(told(&auction) == ["OUTBID dora 2100"])
    }

    @Test("at the end winner and seller are told, and all others who have bid")
    func end() {
        var sold = auction()
        bid(&sold, "ava", .plain(Money(cents: 1_000)))
        bid(&sold, "bruno", .buyNow())
        #expect(told(&sold) == ["AUCTION_WON bruno 9000", "AUCTION_SOLD seller 9000", "all"])
        var unsold = auction(reserve: 5_000)
        bid(&unsold, "ava", .plain(Money(cents: 1_000)))
        unsold.end(at: at(100))
        #expect(told(&unsold) == ["AUCTION_UNSOLD seller 1000", "all"])
    }
}
