// Assembles the bid API: routes, relay, closer, admin listener, and their life from start to drain.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Hummingbird
package import Logging
import Reactor
import RedisLink
import ServiceLifecycle
import Settings
import Synchronization
import Telemetry
import Tokens
import UnixSignals

package enum BidAPIService {
    /// Runs until SIGTERM or SIGINT has drained it.
    /// - Throws: when a port cannot be opened, and ``UnusableDatabase``.
    package static func run(_ configuration: BidAPIConfiguration, logger: Logger) async throws {
        Limits.check()
        try checkPorts(configuration)
        let servers = DatabaseServers(configuration.databaseURL)
        let pooling = PoolingCheck(servers: servers)
        let isPoolingChecked = try await pooling.isPassed()
        let unreadable = UnreadableRows(logger: logger)
        let counters = BidAPICounters()
        let pools = Pools(servers: servers, unreadable: unreadable, counters: counters)
        let topology = RedisTopology(configuration.redisURLs)
        let traces = Traces(path: configuration.traceFile, logger: logger)
        let relay = Relays(database: servers, topology: topology, traces: traces, logger: logger)
        let replica = configuration.databaseReadURL.map { url in
            ReadReplica(
                servers: DatabaseServers(url, for: .reading),
                limitMilliseconds: configuration.readLagMilliseconds, unreadable: unreadable,
                counters: counters, logger: logger)
        }
        let services = Services(
            pool: pools.general, searchPool: pools.search, replica: replica, relay: relay,
            bids: BidQueue(
                pool: pools.bids, antiSniping: configuration.antiSniping, answer: BidRoutes.keptAnswer,
                counters: counters, traces: traces
            ) {
                relay.notify()
            },
            redis: RedisQueries(topology: topology),
            settings: LiveSettings(configuration, keys: tokenKeys(configuration, logger)), counters: counters,
            traces: traces, unreadable: unreadable)
        let files = Mutex<[SocketFile]>([])
        relay.start(prepare: pools.prepareRelay)
        // Before it stops, the relay publishes everything that was committed.
        defer {
            pools.close()
            replica?.close()
            relay.stop()
            services.redis.stop()
            files.withLock { for file in $0 { file.remove() } }
            traces.flush()
        }
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(
                try await serve(
                    services, pools.closer, configuration, logger,
                    first: (isPoolingChecked ? [] : [pooling])
                        + (replica.map { [ReplicaHeartbeat(replica: $0, pool: pools.general)] } ?? [])
                ) { address in
                    guard let file = SocketFile(listeningOn: address) else { return }
                    files.withLock { $0.append(file) }
                })
        } catch {
            outcome = .failure(error)
        }
        await services.passwords.stop()
        try outcome.get()
    }

    /// Checks the ports before anything starts, so that a port in use is the only error reported.
    private static func checkPorts(_ configuration: BidAPIConfiguration) throws {
        for address in [configuration.listen, configuration.adminListen] {
            let listener = try Sockets.listen(on: address, sharesPort: false)
            SocketFile(listeningOn: address)?.remove()
            Sockets.close(listener)
        }
    }

    /// The configured keys, or a fresh key that lives as long as this process if none are configured.
    private static func tokenKeys(
        _ configuration: BidAPIConfiguration, _ logger: Logger
    ) -> (all: TokenKeys, signing: TokenKey) {
        if let keys = configuration.tokenKeys, let signing = keys.signing { return (keys, signing) }
        logger.notice("token-keys is not set: a temporary key signs tokens, which end with this process")
        let key = TokenKey.random(keyID: AuctionID.random(prefix: "key_").text)
        return (TokenKeys([key]), key)
    }

    /// What a listener is bound to. For `*`: IPv6 and IPv4, or IPv4 alone if the system has no IPv6.
    private static func bindAddress(_ address: Reactor.SocketAddress) throws -> BindAddress {
        if let path = address.path { return .unixDomainSocket(path: path) }
        guard address.host == "*" else { return .hostname(address.host, port: Int(address.port)) }
        let probe = try Sockets.listen(on: Reactor.SocketAddress(host: "*", port: 0), sharesPort: false)
        defer { Sockets.close(probe) }
        let host = Reactor.SocketAddress.local(of: probe)?.host ?? address.bindHost
        return .hostname(host, port: Int(address.port))
    }

    private static func serve(
        _ services: Services, _ closerPool: DatabasePool, _ configuration: BidAPIConfiguration,
        _ logger: Logger, first: [any Service],
        onListening: @escaping @Sendable (Reactor.SocketAddress) -> Void
    ) async throws {
        let manager = ServiceManager(environment: ProcessInfo.processInfo.environment)
        let application = Application(
            router: PublicRoutes(services: services).router(),
            server: .init { StrictHTTPChannel(responder: $0) },
            configuration: .init(address: try bindAddress(configuration.listen)),
            onServerRunning: { channel in
                onListening(configuration.listen)
                manager?.ready()
                logger.info(
                    "bid API is listening",
                    metadata: ["listen": "\(channel.localAddress?.description ?? "?")"])
            }, logger: logger)
        let admin = Application(
            router: AdminRoutes(services: services).router(),
            server: .init { StrictHTTPChannel(responder: $0) },
            configuration: .init(address: try bindAddress(configuration.adminListen)),
            onServerRunning: { _ in onListening(configuration.adminListen) }, logger: logger)
        var group = ServiceGroupConfiguration(
            services: first + [
                SettingsReloader(settings: services.settings, logger: logger),
                Housekeeper(services: services, logger: logger),
                AuctionCloser(services: services, pool: closerPool, logger: logger), admin, application,
            ] + (manager.map { [Watchdog(manager: $0)] } ?? []),
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        // A client in the middle of a request must not hold up the shutdown for ever.
        group.maximumGracefulShutdownDuration = Limits.drain
        do {
            try await ServiceGroup(configuration: group).run()
        } catch is CancellationError {
            logger.notice("the drain took too long; unfinished requests were cut off")
        }
    }
}
