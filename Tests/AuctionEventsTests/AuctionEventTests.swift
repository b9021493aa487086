import AuctionEvents
import TestSupport
import Testing

@Suite struct AuctionEventTests {
    private let id = AuctionID("a1")!
    private let time = Timestamp(milliseconds: 1_768_073_400_123)

    @Test("ids are 1 to 64 characters of the allowed set")
    func checksIDs() {
        #expect(AuctionID("a") != nil && AuctionID(String(repeating: "x", count: 64)) != nil)
        for bad in ["", String(repeating: "x", count: 65), "a b", "a/b", "ä", "a\n", "a:b", "{a}", "a%20"] {
            #expect(AuctionID(bad) == nil)
        }
        #expect(AuctionID("prv_1")?.isPrivate == true)
    }

    @Test("a bid's event has the contract's members")
    func encodesBid() {
        let update = AuctionEvent.BidUpdate(
            bidID: "b1", bidder: "a\"b", amount: Money(cents: 1_250), rank: 1, bidAt: time, isProxy: false,
            currentPrice: Money(cents: 1_250), bidCount: 3, reserveMet: true,
            endsAt: Timestamp(milliseconds: time.milliseconds + 5_900))
        let json = AuctionEvent.bidUpdate(update).encoded(auctionID: id, sequence: 4, serverTime: time)
        #expect(
            json
                == #"{"type":"BID_UPDATE","auction_id":"a1","seq":4,"server_time":"2026-01-10T19:30:00.123Z","#
                + #""bid":{"bid_id":"b1","bidder":"a\"b","amount":12.50,"rank":1,"bid_at":"2026-01-10T19:30:00.123Z","#
                + #""is_proxy":false},"current_price":12.50,"bid_count":3,"reserve_met":true,"#
                + #""ends_at":"2026-01-10T19:30:06.023Z","time_remaining_seconds":5}"#)
        #expect(
            EventEnvelope.scan(Array(json.utf8).span, auctionID: "a1")
                == .success(
                    EventEnvelope(kind: .bidUpdate, sequence: 4, type: "BID_UPDATE", publishedAt: time)))
    }

    @Test("a bid's event tells the increment where that depends on the price")
    func encodesIncrement() {
        let update = AuctionEvent.BidUpdate(
            bidID: "b1", bidder: "a", amount: Money(cents: 100), rank: 1, bidAt: time, isProxy: false,
            currentPrice: Money(cents: 100), bidCount: 1, reserveMet: true, endsAt: time,
            increment: Money(cents: 25))
        let json = AuctionEvent.bidUpdate(update).encoded(auctionID: id, sequence: 1, serverTime: time)
        #expect(json.contains(#""bid_count":1,"bid_increment":0.25,"reserve_met":true"#))
    }

    @Test("an end without a winner says so with nulls")
    func encodesEnd() {
        let ending = AuctionEvent.Ending(outcome: .unsold, winner: nil, totalBids: 0)
        let json = AuctionEvent.auctionEnded(ending).encoded(auctionID: id, sequence: 1, serverTime: time)
        #expect(json.hasSuffix(#""outcome":"unsold","winner":null,"winning_bid":null,"total_bids":0}"#))
    }

    @Test("a stored state begins with its sequence number")
    func storesState() {
        let state = AuctionState(
            title: "tab\there", status: .active, currency: "EUR", startingPrice: Money(cents: 100),
            currentPrice: Money(cents: 150), bidIncrement: Money(cents: 50), bidCount: 1, reserveMet: false,
            endsAt: time, topBids: [TopBid(bidder: "x", amount: Money(cents: 150), bidAt: time)])
        let text = String(decoding: state.encoded(sequence: 12), as: UTF8.self)
        #expect(text.hasPrefix(#"{"seq":12,"title":"tab\u0009here","status":"active""#))
        #expect(text.contains(#""top_bids":[{"rank":1,"bidder":"x","amount":1.50,"#))
    }
}
