// Placing a bid, and an auction's bids.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Hummingbird
import Synchronization

struct BidRoutes: Sendable {
    let services: Services

    func place(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let auctionID = try AuctionRoutes.auctionID(context)
        let body = try await RequestBodies.decode(BidBody.self, from: request)
        guard body.max_amount == nil else { throw APIError.validation("max_amount: is not offered") }
        guard body.amount.money.cents > 0 else { throw APIError.validation("amount: must be above 0") }
        if let seconds = services.bidLimiter.take(userID, now: Date.now.timeIntervalSince1970) {
            throw APIError.rateLimited(retryAfterSeconds: seconds)
        }
        var generator = SystemRandomNumberGenerator()
        let bid = BidTransaction.Waiting(
            bidID: AuctionID.random(prefix: "bid_", using: &generator).text, bidderID: userID,
            amount: body.amount.money)
        let outcome: BidTransaction.Outcome
        do throws(DatabaseError) {
            outcome = try await services.bids.place(bid, on: auctionID)
        } catch {
            services.counters.unknownOutcomes.add(1, ordering: .relaxed)
            throw error
        }
        switch outcome {
        case .accepted(let accepted):
            services.counters.acceptedBids.add(1, ordering: .relaxed)
            return Self.response(accepted)
        case .refused(let refusal): throw refused(.refusal(refusal))
        case .banned:
            throw refused(APIError(status: .forbidden, code: "BANNED", message: "this user is banned"))
        case .unknownBidder: throw refused(.unauthorized)
        case .unknownAuction: throw refused(.notFound("auction"))
        }
    }

    private func refused(_ error: APIError) -> APIError {
        services.counters.refusedBids.add(1, ordering: .relaxed)
        return error
    }

    private static func response(_ bid: AcceptedBid) -> Response {
        .json(.created) {
            $0.field("bid_id", bid.request.bidID)
            $0.field("status", "ACCEPTED")
            $0.field("amount", bid.request.amount)
            $0.field("new_current_price", bid.currentPrice)
            $0.field("your_rank", bid.rank)
            $0.field("is_highest_bidder", bid.rank == 1)
            $0.field("auction_ends_at", bid.endsAt)
            $0.field("created_at", bid.bidAt)
        }
    }

    func history(_ request: Request, _ context: AppContext) async throws -> Response {
        let auctionID = try AuctionRoutes.auctionID(context)
        let limit = try AuctionRoutes.number("limit", request, default: 20, in: 1...100)
        let maximum = Int(SequenceNumber.maximumSequence)
        let before = try AuctionRoutes.number("cursor", request, default: maximum, in: 1...maximum)
        let page = try await services.pool.run { connection throws(DatabaseError) in
            try BidHistory.page(connection, auctionID, before: SequenceNumber(before), limit: limit + 1)
        }
        guard let page else { throw APIError.notFound("auction") }
        return .json { writer in
            writer.key("bids")
            writer.array { writer in
                for bid in page.bids.prefix(limit) {
                    writer.object {
                        $0.field("bid_id", bid.bidID)
                        $0.field("bidder", bid.bidder)
                        $0.field("amount", bid.amount)
                        $0.field("bid_at", bid.bidAt)
                        $0.field("is_proxy", bid.isProxy)
                        $0.field("seq", bid.sequence)
                    }
                }
            }
            writer.field("total", page.total)
            writer.field("next_cursor", page.bids.count > limit ? "\(page.bids[limit - 1].sequence)" : nil)
        }
    }
}
