// What the routes work with.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Reactor
import Telemetry
import Tokens

struct AppContext: RequestContext, RemoteAddressRequestContext {
    var coreContext: CoreRequestContextStorage
    let remoteAddress: NIOCore.SocketAddress?

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        remoteAddress = source.channel.remoteAddress
    }
}

struct Services: Sendable {
    /// How long a token is valid.
    static let tokenSeconds = 86_400

    let pool: DatabasePool
    /// Searches may take long, so they have their own pool and do not delay other requests.
    let searchPool: DatabasePool
    /// `nil` without `database-read-url`.
    let replica: ReadReplica?
    let passwords: PasswordHashing
    let relay: Relays
    let bids: BidQueue
    let redis: RedisQueries
    let settings: LiveSettings
    let counters: BidAPICounters
    let traces: Traces
    let unreadable: UnreadableRows
    let bidLimiter: RateLimiter
    let auctionLimiter: RateLimiter
    let searchLimiter: RateLimiter

    init(
        pool: DatabasePool, searchPool: DatabasePool, replica: ReadReplica?, relay: Relays, bids: BidQueue,
        redis: RedisQueries,
        settings: LiveSettings, counters: BidAPICounters, traces: Traces,
        unreadable: UnreadableRows
    ) {
        self.pool = pool
        self.searchPool = searchPool
        self.replica = replica
        passwords = PasswordHashing()
        self.relay = relay
        self.bids = bids
        self.redis = redis
        self.settings = settings
        self.counters = counters
        self.traces = traces
        self.unreadable = unreadable
        func limiter(_ name: String, _ periodSeconds: Int) -> RateLimiter {
            RateLimiter(
                name: name, periodSeconds: periodSeconds, redis: redis, uncounted: counters.uncountedActions)
        }
        bidLimiter = limiter("bids", 60)
        auctionLimiter = limiter("auctions", 3_600)
        searchLimiter = limiter("searches", 60)
    }

    // MARK: Who asks

    /// The user id of the request's token.
    func authenticate(_ request: Request) throws(APIError) -> String {
        guard let header = request.headers[.authorization],
            header.prefix("bearer ".count).lowercased() == "bearer "
        else { throw .unauthorized }
        let text = String(header.dropFirst("bearer ".count).drop { $0 == " " })
        let token: AccessToken
        do throws(AccessToken.Fault) {
            token = try settings.current.tokens.verify(text, now: Int(Date.now.timeIntervalSince1970))
        } catch {
            throw .unauthorized
        }
        guard token.audience == nil || token.audience == "api" else {
            throw APIError(status: .forbidden, code: "FORBIDDEN", message: "this token is for watching only")
        }
        return token.subject
    }

    /// The user id of the request's token. Throws when the user does not exist or is banned.
    func requireUser(_ request: Request) async throws -> String {
        let userID = try authenticate(request)
        let refusal = try await pool.run { connection throws(DatabaseError) in
            try UserRecords.refusal(connection, userID, .user)
        }
        if let refusal { throw APIError.refusal(refusal) }
        return userID
    }

    /// Requires a valid user for a private auction. A public auction needs none.
    func requireUser(_ request: Request, toRead auctionID: AuctionID) async throws {
        if auctionID.isPrivate { _ = try await requireUser(request) }
    }

    /// The client address that a rate limit counts for anonymous requests.
    func client(_ request: Request, _ context: AppContext) -> String {
        let isSocket = context.remoteAddress?.protocol == .unix
        let peer =
            isSocket ? .localSocket : context.remoteAddress?.ipAddress.flatMap { ClientAddress(text: $0) }
        guard let peer else { return "unknown" }
        let trusted = settings.current.trustedProxies
        let forwarded = request.headers[.xForwardedFor].flatMap {
            ForwardedClient.find($0, peer: peer, trusted: trusted)
        }
        return (forwarded ?? peer).network.description
    }
}

extension HTTPField.Name {
    static let xForwardedFor = HTTPField.Name("X-Forwarded-For")!
}
