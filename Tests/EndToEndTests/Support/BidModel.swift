// The pure rules as a judge of what a bid API did: an auction's committed events must be what the rules make
// of some order of the requests that were answered with success, and each refusal must have been right at
// some moment while its request was under way.

import AuctionEvents
import Bidding
import Foundation
import TestSupport

/// A request to bid and its answer.
struct JudgedBid: Sendable {
    let userID: String
    let username: String
    let offer: BidRequest.Offer
    /// Milliseconds since 1970, by the clock that the database has too.
    let sentAt: Int64
    let answeredAt: Int64
    let status: Int
    let answer: String

    var json: [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(answer.utf8))) as? [String: Any] ?? [:]
    }
    var isAccepted: Bool { status == 201 }
    var bidID: String { json["bid_id"] as? String ?? "" }
    var decidedAt: Timestamp { time(json["created_at"]) }
    var maximum: Money? {
        switch offer {
        case .plain(let amount): amount
        case .limited(_, let maximum), .proxy(let maximum): maximum
        case .buyNow: nil
        }
    }

    /// Whether the answer is what the rules say.
    func tells(_ receipt: BidReceipt) -> Bool {
        cents(json["amount"]) == receipt.amount.cents && json["your_rank"] as? Int == receipt.rank
            && cents(json["new_current_price"]) == receipt.currentPrice.cents
            && json["is_highest_bidder"] as? Bool == (receipt.rank == 1)
            && time(json["auction_ends_at"]) == receipt.endsAt
    }

    func request(automaticBidID: String) -> BidRequest {
        BidRequest(
            bidID: bidID.isEmpty ? "refused" : bidID, automaticBidID: automaticBidID, bidderID: userID,
            bidder: username, offer: offer)
    }
}

private func time(_ value: Any?) -> Timestamp {
    (value as? String).flatMap { Timestamp(text: $0) } ?? Timestamp(milliseconds: 0)
}

private func cents(_ value: Any?) -> Int64? {
    (value as? Double).map { Int64(($0 * 100).rounded()) }
}

struct BidModel {
    /// A committed event as the outbox has it.
    struct Committed {
        let text: String
        let json: [String: Any]

        init(_ text: String) {
            self.text = text
            json = (try? JSONSerialization.jsonObject(with: Data(text.utf8))) as? [String: Any] ?? [:]
        }

        var type: String { json["type"] as? String ?? "" }
        var at: Timestamp { time(json["server_time"]) }
        var bidID: String? { (json["bid"] as? [String: Any])?["bid_id"] as? String }
    }

    /// What held from a moment on.
    struct Moment {
        let auction: Auction
        let from: Timestamp
    }

    private static let stepLimit = 1_000_000

    let antiSniping: AntiSniping
    let startsAt: Timestamp
    let events: [Committed]
    private let accepted: [String: JudgedBid]
    private let refused: [JudgedBid]
    /// Accepted, but without an event: the leader goes further.
    private let raises: [JudgedBid]
    private var steps = 0
    /// How far the best order of requests explains the events.
    private(set) var explained = 0

    init(
        antiSniping: AntiSniping, startsAt: Timestamp, events: [String], bids: [JudgedBid]
    ) {
        self.antiSniping = antiSniping
        self.startsAt = startsAt
        self.events = events.map(Committed.init)
        let ids = Set(self.events.compactMap(\.bidID))
        accepted = Dictionary(uniqueKeysWithValues: bids.filter(\.isAccepted).map { ($0.bidID, $0) })
        refused = bids.filter { !$0.isAccepted }
        raises = accepted.values.filter { !ids.contains($0.bidID) }.sorted { $0.decidedAt < $1.decidedAt }
    }

    // MARK: Order

    /// The states that the auction went through, from the first; `nil` when no order of the requests explains
    /// the events.
    mutating func history(of auction: Auction) -> [Moment]? {
        explain([Moment(auction: auction, from: startsAt)], from: 0, raises)
    }

    private mutating func explain(
        _ past: [Moment], from index: Int, _ raises: [JudgedBid]
    ) -> [Moment]? {
        steps += 1
        explained = max(explained, index)
        guard steps < Self.stepLimit, let now = past.last?.auction else { return nil }
        if index == events.count, raises.isEmpty { return past }
        let next = index < events.count ? events[index].at : nil
        for (place, raise) in raises.enumerated() {
            if let next, raise.decidedAt > next { break }
            var auction = now
            let result = auction.place(
                raise.request(automaticBidID: ""), at: raise.decidedAt, antiSniping: antiSniping)
            guard case .success(let receipt) = result, raise.tells(receipt), auction.takeEvents().isEmpty
            else {
                continue
            }
            var rest = raises
            rest.remove(at: place)
            if let found = explain(
                past + [Moment(auction: auction, from: raise.decidedAt)], from: index, rest)
            {
                return found
            }
        }
        // What was decided before the next event must have been explained.
        guard let next, raises.first.map({ $0.decidedAt >= next }) ?? true else { return nil }
        for var auction in outcomes(of: now, at: index) {
            let made = auction.takeEvents()
            let texts = made.map {
                $0.event.encoded(auctionID: auction.id, sequence: $0.sequence, serverTime: next)
            }
            guard !texts.isEmpty, texts == events[index...].prefix(texts.count).map(\.text) else { continue }
            _ = auction.takeBids()
            let moment = Moment(auction: auction, from: next)
            if let found = explain(past + [moment], from: index + made.count, raises) { return found }
        }
        return nil
    }

    /// What may have brought about the event at `index`.
    private func outcomes(of auction: Auction, at index: Int) -> [Auction] {
        let event = events[index]
        func changed(_ body: (inout Auction) -> Void) -> [Auction] {
            var copy = auction
            body(&copy)
            return [copy]
        }
        switch event.type {
        case "AUCTION_ENDED":
            return event.json["outcome"] as? String == "cancelled"
                ? changed { _ = $0.cancel(at: event.at) } : changed { $0.end(at: event.at) }
        case "TIME_EXTENDED":
            let newEnd = time(event.json["new_ends_at"])
            return changed { _ = $0.extend(to: newEnd, startsAt: startsAt, at: event.at) }
        case "BID_UPDATE": break
        default: return []
        }
        let bidID = event.bidID ?? ""
        if let bid = accepted[bidID] {
            let automatic = events[index...].dropFirst().prefix(3).compactMap(\.bidID).first
            var copy = auction
            let request = bid.request(automaticBidID: automatic ?? "none")
            let result = copy.place(request, at: event.at, antiSniping: antiSniping)
            guard case .success(let receipt) = result, bid.tells(receipt) else { return [] }
            return [copy]
        }
        // The leader's automatic bid, in answer to somebody who was refused for the same maximum.
        for challenger in refused where challenger.maximum == auction.leaderMaximum {
            var copy = auction
            let request = challenger.request(automaticBidID: bidID)
            _ = copy.place(request, at: event.at, antiSniping: antiSniping)
            if copy.sequence > auction.sequence { return [copy] }
        }
        return []
    }

    // MARK: Refusals

    /// The refusals that were right at no moment while their request was under way.
    func unfounded(_ history: [Moment]) -> [JudgedBid] {
        refused.filter { bid in
            !history.indices.contains { index in
                let begin = max(history[index].from.milliseconds, bid.sentAt - 2)
                let next = index + 1 < history.count ? history[index + 1].from.milliseconds : .max
                let end = min(next, bid.answeredAt + 2)
                guard begin <= end else { return false }
                return [begin, end].contains { moment in
                    var auction = history[index].auction
                    let result = auction.place(
                        bid.request(automaticBidID: "auto"), at: Timestamp(milliseconds: moment),
                        antiSniping: antiSniping)
                    guard case .failure(let refusal) = result else { return false }
                    return Self.isAnswer(bid, refusal)
                }
            }
        }
    }

    private static func isAnswer(_ bid: JudgedBid, _ refusal: BidRefusal) -> Bool {
        let json = bid.json
        let code = json["error"] as? String
        switch refusal {
        case .notStarted: return code == "NOT_STARTED"
        case .ended(let winner): return code == "AUCTION_ENDED" && json["winner"] as? String == winner
        case .ownAuction: return code == "SELF_BID"
        case .alreadyHighest: return code == "ALREADY_HIGHEST"
        case .priceChanged: return code == "PRICE_CHANGED"
        case .notForSale, .excessDecimals: return code == "VALIDATION_ERROR"
        case .tooLow(let price, let minimum):
            return code == "BID_TOO_LOW" && cents(json["current_price"]) == price.cents
                && cents(json["minimum_bid"]) == minimum.cents
        }
    }
}
