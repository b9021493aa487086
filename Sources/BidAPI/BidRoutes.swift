// Placing a bid, and an auction's bids.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import HTTPTypes
import Hummingbird
import Reactor
import Telemetry

struct BidRoutes: Sendable {
    let services: Services

    // MARK: Bidding

    func place(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let (body, text) = try await RequestBodies.read(BidBody.self, from: request)
        guard body.amount.minorUnits > 0 else { throw APIError.validation("amount: must be above 0") }
        guard let maximum = body.maximum else {
            return try await decide(.plain(body.amount), userID, request, context, text)
        }
        guard maximum >= body.amount else { throw APIError.validation("max_amount: is below amount") }
        return try await decide(.limited(body.amount, maximum: maximum), userID, request, context, text)
    }

    func proxy(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let (body, text) = try await RequestBodies.read(ProxyBody.self, from: request)
        guard body.maximum.minorUnits > 0 else { throw APIError.validation("max_amount: must be above 0") }
        return try await decide(.proxy(maximum: body.maximum), userID, request, context, text)
    }

    func buyNow(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        guard RequestBodies.hasBody(request) else {
            return try await decide(.buyNow(), userID, request, context, "")
        }
        let (body, text) = try await RequestBodies.read(BuyBody.self, from: request)
        return try await decide(.buyNow(agreed: body.amount), userID, request, context, text)
    }

    private func decide(
        _ offer: BidRequest.Offer, _ userID: String, _ request: Request, _ context: AppContext, _ text: String
    ) async throws -> Response {
        let auctionID = try context.auctionID
        let arrival = ContinuousClock.now
        let wall = Clock.wallMicroseconds()
        let key = try Self.key(request, userID, text)
        let isCounted = try await takesFromLimit(userID, key)
        // After the limit, so that bids over the limit do not use up the traces of others.
        let traced = services.traces.begin(request.headers[.traceParent], at: wall)
        let bid = BidTransaction.Waiting(
            bidID: AuctionID.random(prefix: "bid_").text,
            automaticBidID: AuctionID.random(prefix: "bid_").text, bidderID: userID,
            offer: offer, key: key, trace: traced?.context)
        func end(_ status: Int) {
            guard let traced, let route = context.endpointPath else { return }
            services.traces.end(traced, route: route, auctionID: auctionID, status: status)
        }
        let outcome: BidTransaction.Outcome
        do throws(DatabaseError) {
            outcome = try await services.bids.place(bid, on: auctionID)
        } catch {
            services.counters.add(.unknown)
            end(HTTPResponse.Status.serviceUnavailable.code)
            throw error
        }
        services.counters.add(BidAPICounters.BidResult(outcome))
        services.counters.bidSeconds.add((ContinuousClock.now - arrival) / .seconds(1))
        if isCounted, case .repeated = outcome {
            let limit = services.settings.current.bidsPerMinute
            await services.bidLimiter.giveBack(userID, limit: limit)
        }
        let response = Self.response(outcome)
        end(response.status.code)
        return response
    }

    /// Takes one bid from the user's limit per minute. False when none is left, but the request repeats one
    /// that was already answered.
    private func takesFromLimit(_ userID: String, _ key: IdempotencyKey?) async throws -> Bool {
        let limit = services.settings.current.bidsPerMinute
        guard let seconds = await services.bidLimiter.take(userID, limit: limit) else { return true }
        if let key {
            let isKnown = try await services.pool.run { connection throws(DatabaseError) in
                try IdempotencyKeys.isKnown(connection, key)
            }
            if isKnown { return false }
        }
        services.counters.add(.rateLimited)
        throw APIError.rateLimited(retryAfterSeconds: seconds)
    }

    private static func key(
        _ request: Request, _ userID: String, _ text: String
    ) throws(APIError) -> IdempotencyKey? {
        guard let key = request.headers[.idempotencyKey] ?? request.headers[.otherIdempotencyKey] else {
            return nil
        }
        guard (1...64).contains(key.utf8.count), key.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw .validation("Idempotency-Key: must be 1 to 64 visible characters")
        }
        return IdempotencyKey(userID: userID, key: key, request: "\(request.uri.path)\n\(text)")
    }

    // MARK: Answers

    /// The answer that is kept for repeats of the request.
    static func keptAnswer(_ outcome: BidTransaction.Outcome) -> KeptAnswer {
        let (status, body) = answer(outcome)
        return KeptAnswer(status: status.code, body: body)
    }

    private static func response(_ outcome: BidTransaction.Outcome) -> Response {
        let (status, body) = answer(outcome)
        return .json(status, text: body)
    }

    private static func answer(
        _ outcome: BidTransaction.Outcome
    ) -> (status: HTTPResponse.Status, body: String) {
        let refusal: APIError
        switch outcome {
        case .accepted(let receipt): return (.created, body(receipt))
        // The repeat of a request that created a bid creates nothing.
        case .repeated(let answer):
            return (answer.status == 201 ? .ok : HTTPResponse.Status(code: answer.status), answer.body)
        case .refused(let reason): refusal = .refusal(reason)
        case .banned: refusal = .banned
        case .unknownBidder: refusal = .unauthorized
        case .unknownAuction: refusal = .notFound("auction")
        case .otherRequest:
            refusal = APIError(
                status: .unprocessableContent, code: "IDEMPOTENCY_MISMATCH",
                message: "another request was sent under this Idempotency-Key")
        }
        return (refusal.status, refusal.body)
    }

    private static func body(_ receipt: BidReceipt) -> String {
        var writer = JSONWriter()
        writer.object {
            $0.field("bid_id", receipt.bidID)
            $0.field("status", "ACCEPTED")
            $0.field("amount", receipt.amount)
            $0.field("new_current_price", receipt.currentPrice)
            $0.field("your_rank", receipt.rank)
            $0.field("is_highest_bidder", receipt.rank == 1)
            $0.field("auction_ends_at", receipt.endsAt)
            $0.field("created_at", receipt.bidAt)
        }
        return writer.text
    }

    // MARK: Reading

    func history(_ request: Request, _ context: AppContext) async throws -> Response {
        let auctionID = try context.auctionID
        try await services.requireUser(request, toRead: auctionID)
        let limit = try request.limit
        let most: SequenceNumber = 9_999_999_999_999_999
        let before = try request.number("cursor", default: most, in: 1...most, mayBeEmpty: true)
        let read = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try BidHistory.page(connection, auctionID, before: before, limit: limit)
        }
        // A signed-in user may look for a bid of a moment ago. A replica may not have it yet, nor an auction
        // that was created a moment ago.
        if request.headers[.authorization] == nil,
            let answer = await services.replica?.read(.page, read), let page = answer.value
        {
            return Self.response(page).declaring(ageMilliseconds: answer.ageMilliseconds)
        }
        guard let page = try await services.pool.run(read) else { throw APIError.notFound("auction") }
        return Self.response(page)
    }

    private static func response(_ page: BidHistory.Page) -> Response {
        .page("bids", page.bids, next: page.next.map { "\($0)" }, more: { $0.field("total", page.total) }) {
            write($0, to: &$1)
        }
    }

    static func write(_ bid: BidRow, to writer: inout JSONWriter) {
        writer.field("bid_id", bid.bidID)
        writer.field("bidder", bid.bidder)
        writer.field("amount", bid.amount)
        writer.field("bid_at", bid.bidAt)
        writer.field("is_proxy", bid.isProxy)
        writer.field("seq", bid.sequence)
    }
}

extension HTTPField.Name {
    static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
    static let otherIdempotencyKey = HTTPField.Name("X-Idempotency-Key")!
}
