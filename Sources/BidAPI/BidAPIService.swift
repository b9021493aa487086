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
    /// Connections for bids, as many as there are transactions at once, and for all else.
    private static let bidThreads = BidQueue.transactionLimit
    private static let databaseThreads = 6
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
        // Statements of bids touch single rows by key: planning them each time would cost more than they do.
        let migrateForBids = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try migrate(connection)
            try connection.query("SET plan_cache_mode = force_generic_plan")
        }
        let relay = Relay(
            databaseURL: configuration.databaseURL, redisURLs: configuration.redisURLs, logger: logger)
        let pool = DatabasePool(
            url: configuration.databaseURL, threads: databaseThreads, jobLimit: waitingJobs, prepare: migrate)
        let bidPool = DatabasePool(
            url: configuration.databaseURL, threads: bidThreads, jobLimit: bidThreads, prepare: migrateForBids
        )
        // The closer must not wait behind a rush of bids.
        let closerPool = DatabasePool(
            url: configuration.databaseURL, threads: 1, jobLimit: 1, prepare: migrate)
        let counters = BidAPICounters()
        let services = Services(
            pool: pool, relay: relay,
            bids: BidQueue(
                pool: bidPool, antiSniping: configuration.antiSniping, answer: BidRoutes.keptAnswer,
                batchBids: counters.batchBids
            ) {
                relay.notify()
            },
            redis: RedisQueries(redisURLs: configuration.redisURLs),
            settings: LiveSettings(configuration, keys: tokenKeys(configuration, logger)), counters: counters)
        relay.start(prepare: migrateForBids)
        // What was committed before the end is published before the end.
        defer {
            closerPool.close()
            pool.close()
            bidPool.close()
            relay.stop()
            services.redis.stop()
        }
        try await serve(services, closerPool, configuration, logger)
    }

    /// The configured keys; without any, one that lives as long as this process.
    private static func tokenKeys(
        _ configuration: BidAPIConfiguration, _ logger: Logger
    ) -> (all: TokenKeys, signing: TokenKey) {
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
            router: PublicRoutes(services: services).router(),
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
                    SettingsReloader(settings: services.settings, logger: logger),
                    AuctionCloser(services: services, pool: closerPool, logger: logger), admin, application,
                ],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }
}

/// Whether this process has brought the database up to date.
private final class MigrationFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
