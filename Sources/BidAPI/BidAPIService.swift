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
    /// Runs until SIGTERM or SIGINT has drained it.
    /// - Throws: when a port cannot be opened.
    package static func run(_ configuration: BidAPIConfiguration, logger: Logger) async throws {
        Limits.check()
        // Before anything starts, so that a port in use is the only thing that is said.
        for address in [configuration.listen, configuration.adminListen] {
            Sockets.close(try Sockets.listen(on: address, sharesPort: false))
        }
        let flag = MigrationFlag()
        let unreadable = UnreadableRows(logger: logger)
        let migrate = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            connection.reportUnreadable = unreadable.note
            guard !flag.isSet else { return }
            try Migrations.apply(connection)
            flag.set()
        }
        // Statements of bids touch single rows by key: planning them each time would cost more than they do.
        let migrateForRelay = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try migrate(connection)
            try connection.query("SET plan_cache_mode = force_generic_plan")
        }
        let migrateForBids = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try migrateForRelay(connection)
            try connection.endIdleTransactions(afterMilliseconds: Limits.idleTransactionMilliseconds)
        }
        let relay = Relays(
            databaseURL: configuration.databaseURL, redisURLs: configuration.redisURLs, logger: logger)
        let pool = DatabasePool(
            url: configuration.databaseURL, threads: Limits.databaseConnections, jobLimit: Limits.waitingJobs,
            prepare: migrate)
        let bidPool = DatabasePool(
            url: configuration.databaseURL, threads: Limits.bidTransactions, jobLimit: Limits.bidTransactions,
            prepare: migrateForBids
        )
        let searchPool = DatabasePool(
            url: configuration.databaseURL, threads: Limits.searchConnections, jobLimit: Limits.waitingJobs,
            prepare: migrate)
        // The closer must not wait behind a rush of bids.
        let closerPool = DatabasePool(
            url: configuration.databaseURL, threads: 1, jobLimit: 1, prepare: migrate)
        let counters = BidAPICounters()
        let services = Services(
            pool: pool, searchPool: searchPool, relay: relay,
            bids: BidQueue(
                pool: bidPool, antiSniping: configuration.antiSniping, answer: BidRoutes.keptAnswer,
                batchBids: counters.batchBids
            ) {
                relay.notify()
            },
            redis: RedisQueries(redisURLs: configuration.redisURLs),
            settings: LiveSettings(configuration, keys: tokenKeys(configuration, logger)), counters: counters,
            unreadable: unreadable)
        relay.start(prepare: migrateForRelay)
        // What was committed before the end is published before the end.
        defer {
            closerPool.close()
            pool.close()
            bidPool.close()
            searchPool.close()
            relay.stop()
            services.redis.stop()
        }
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await serve(services, closerPool, configuration, logger))
        } catch {
            outcome = .failure(error)
        }
        await services.passwords.stop()
        try outcome.get()
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

    /// The host that a listener is bound to: for `*` what this system has, IPv6 and IPv4 or IPv4 alone.
    private static func bindHost(_ address: Reactor.SocketAddress) throws -> String {
        guard address.host == "*" else { return address.host }
        let probe = try Sockets.listen(on: Reactor.SocketAddress(host: "*", port: 0), sharesPort: false)
        defer { Sockets.close(probe) }
        return Reactor.SocketAddress.local(of: probe)?.host ?? address.bindHost
    }

    private static func serve(
        _ services: Services, _ closerPool: DatabasePool, _ configuration: BidAPIConfiguration,
        _ logger: Logger
    ) async throws {
        let application = Application(
            router: PublicRoutes(services: services).router(),
            server: .init { StrictHTTPChannel(responder: $0) },
            configuration: .init(
                address: .hostname(try bindHost(configuration.listen), port: Int(configuration.listen.port))),
            onServerRunning: { channel in
                logger.info(
                    "bid API is listening",
                    metadata: ["listen": "\(channel.localAddress?.description ?? "?")"])
            }, logger: logger)
        let adminAddress = configuration.adminListen
        let admin = Application(
            router: AdminRoutes(services: services).router(),
            server: .init { StrictHTTPChannel(responder: $0) },
            configuration: .init(
                address: .hostname(try bindHost(adminAddress), port: Int(adminAddress.port))),
            logger: logger)
        var group = ServiceGroupConfiguration(
            services: [
                SettingsReloader(settings: services.settings, logger: logger),
                Housekeeper(services: services, logger: logger),
                AuctionCloser(services: services, pool: closerPool, logger: logger), admin, application,
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        // A client that is in the middle of a request may not hold it up for ever.
        group.maximumGracefulShutdownDuration = Limits.drain
        do {
            try await ServiceGroup(configuration: group).run()
        } catch is CancellationError {
            logger.notice("ended with requests under way")
        }
    }
}

/// Whether this process has brought the database up to date.
private final class MigrationFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
