// What the routes work with.

import AuctionStore
import Bidding
import Foundation
import Hummingbird
import Logging
import NIOPosix
import Synchronization
import Telemetry
import Tokens

typealias AppContext = BasicRequestContext

/// Counters of the bid API; written from any task.
final class BidAPICounters: Sendable {
    let acceptedBids = Atomic<Int>(0)
    let refusedBids = Atomic<Int>(0)
    let repeatedBids = Atomic<Int>(0)
    let unknownOutcomes = Atomic<Int>(0)
    let createdAuctions = Atomic<Int>(0)
    let endedOrStarted = Atomic<Int>(0)
}

struct Services: Sendable {
    /// How long a token is valid.
    static let tokenSeconds = 86_400

    let pool: DatabasePool
    let relay: Relay
    let bids: BidQueue
    let viewers: ViewerCounts
    let tokenKeys: TokenKeys
    /// One of ``tokenKeys`` that can sign.
    let signingKey: TokenKey
    let bidLimiter: RateLimiter
    let auctionLimiter: RateLimiter
    let counters = BidAPICounters()

    /// The user id of the request's token.
    func authenticate(_ request: Request) throws -> String {
        guard let header = request.headers[.authorization], header.lowercased().hasPrefix("bearer ") else {
            throw APIError.unauthorized
        }
        let text = header.dropFirst("bearer ".count).trimmingCharacters(in: .whitespaces)
        let token: AccessToken
        do throws(AccessToken.Fault) {
            token = try AccessToken.verify(text, with: tokenKeys, now: Int(Date.now.timeIntervalSince1970))
        } catch {
            throw APIError.unauthorized
        }
        guard token.audience == nil || token.audience == "api" else {
            throw APIError(status: .forbidden, code: "FORBIDDEN", message: "this token is for watching only")
        }
        return token.subject
    }

    /// Runs what blocks for long (hashing) away from the event loops.
    func blocking<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async throws -> Result {
        try await NIOThreadPool.singleton.runIfActive { body() }
    }
}
