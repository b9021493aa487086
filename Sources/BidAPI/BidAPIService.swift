// Assembles the bid API: routes, relay, closer, admin listener, and their life from start to drain.

import AuctionEvents
import AuctionStore
import Bidding
import Hummingbird
package import Logging
import Reactor
import ServiceLifecycle
import Synchronization
import Telemetry
import Tokens
import UnixSignals

package enum BidAPIService {
    private static let databaseThreads = 8
    private static let waitingJobs = 4_096

    /// Runs until SIGTERM or SIGINT has drained it.
    /// - Throws: when a port cannot be opened.
    package static func run(_ configuration: BidAPIConfiguration, logger: Logger) async throws {
        // Before anything starts, so that a port in use is the only thing that is said.
        for address in [configuration.listen, configuration.adminListen] {
            Sockets.close(try Sockets.listen(on: address, sharesPort: false))
        }
        let flag = MigrationFlag()
        let migrate = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            guard !flag.isSet else { return }
            try Migrations.apply(connection)
            flag.set()
        }
        let relay = Relay(
            databaseURL: configuration.databaseURL, redisURLs: configuration.redisURLs, logger: logger)
        let pool = DatabasePool(
            url: configuration.databaseURL, threads: databaseThreads, jobLimit: waitingJobs, prepare: migrate)
        // The closer must not wait behind a rush of bids.
        let closerPool = DatabasePool(
            url: configuration.databaseURL, threads: 1, jobLimit: 1, prepare: migrate)
        let (keys, signingKey) = tokenKeys(configuration, logger)
        let services = Services(
            pool: pool, relay: relay,
            bids: BidQueue(pool: pool, antiSniping: configuration.antiSniping, answer: BidRoutes.keptAnswer) {
                relay.notify()
            },
            viewers: ViewerCounts(redisURLs: configuration.redisURLs),
            tokenKeys: keys, signingKey: signingKey,
            bidLimiter: RateLimiter(limit: configuration.bidsPerMinute, periodSeconds: 60),
            auctionLimiter: RateLimiter(limit: configuration.auctionsPerHour, periodSeconds: 3_600))
        relay.start(prepare: migrate)
        // What was committed before the end is published before the end.
        defer {
            closerPool.close()
            pool.close()
            relay.stop()
            services.viewers.stop()
        }
        try await serve(services, closerPool, configuration, logger)
    }

    /// The configured keys; without any, one that lives as long as this process.
    private static func tokenKeys(
        _ configuration: BidAPIConfiguration, _ logger: Logger
    ) -> (TokenKeys, TokenKey) {
        if let keys = configuration.tokenKeys, let signing = keys.signing { return (keys, signing) }
        logger.notice("signing tokens with a key made at this start; they end with this process")
        let key = TokenKey.random(keyID: AuctionID.random(prefix: "key_").text)
        return (TokenKeys([key]), key)
    }

    private static func serve(
        _ services: Services, _ closerPool: DatabasePool, _ configuration: BidAPIConfiguration,
        _ logger: Logger
    ) async throws {
        let application = Application(
            router: router(services, configuration),
            configuration: .init(
                address: .hostname(configuration.listen.host, port: Int(configuration.listen.port))),
            onServerRunning: { channel in
                logger.info(
                    "bid API is listening",
                    metadata: ["listen": "\(channel.localAddress?.description ?? "?")"])
            }, logger: logger)
        let admin = Application(
            router: AdminRoutes(services: services).router(),
            configuration: .init(
                address: .hostname(configuration.adminListen.host, port: Int(configuration.adminListen.port))),
            logger: logger)
        let group = ServiceGroup(
            configuration: .init(
                services: [
                    AuctionCloser(services: services, pool: closerPool, logger: logger), admin, application,
                ],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }

    private static func router(_ services: Services, _ configuration: BidAPIConfiguration) -> Router<
        AppContext
    > {
        let router = Router(context: AppContext.self)
        router.add(middleware: CrossOriginMiddleware(origins: configuration.origins))
        router.add(middleware: ErrorMiddleware())
        let auth = AuthRoutes(services: services)
        let auctions = AuctionRoutes(services: services)
        let bids = BidRoutes(services: services)
        let table = RouteTable(router: router)
        table.add("/api/v1/auth/register", [(.post, auth.register)])
        table.add("/api/v1/auth/login", [(.post, auth.login)])
        table.add("/api/v1/auctions", [(.get, auctions.list), (.post, auctions.create)])
        table.add("/api/v1/auctions/:id", [(.get, auctions.get)])
        table.add("/api/v1/auctions/:id/bids", [(.get, bids.history), (.post, bids.place)])
        table.add("/api/v1/auctions/:id/proxy", [(.post, bids.proxy)])
        table.add("/api/v1/auctions/:id/buy-now", [(.post, bids.buyNow)])
        return router
    }
}

/// Whether this process has brought the database up to date.
private final class MigrationFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// Registers routes, and answers the other methods of their addresses with 405.
struct RouteTable {
    typealias Handler = @Sendable (Request, AppContext) async throws -> Response

    let router: Router<AppContext>

    func add(_ path: RouterPath, _ handlers: [(HTTPRequest.Method, Handler)]) {
        let allowed = handlers.map(\.0.rawValue).joined(separator: ", ")
        for (method, handler) in handlers { router.on(path, method: method, use: handler) }
        let methods: [HTTPRequest.Method] = [.get, .head, .post, .put, .patch, .delete, .options]
        for method in methods where !handlers.contains(where: { $0.0 == method }) {
            router.on(path, method: method) { _, _ in
                var response = APIError(
                    status: .methodNotAllowed, code: "METHOD_NOT_ALLOWED", message: "allowed here: \(allowed)"
                ).response
                response.headers[.allow] = allowed
                return response
            }
        }
    }
}
