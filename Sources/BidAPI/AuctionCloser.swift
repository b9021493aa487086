// Starts and ends auctions. Every quarter of a second it asks the database which auctions are due by the
// database's clock.

import AuctionStore
import Logging
import ServiceLifecycle
import Telemetry

struct AuctionCloser: Service {
    let services: Services
    /// A connection of its own.
    let pool: DatabasePool
    let logger: Logger

    func run() async throws {
        var isLossLogged = false
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            do {
                let lateness = try await pool.run(AuctionClock.tick)
                if isLossLogged { logger.info("the closer reconnected to PostgreSQL") }
                isLossLogged = false
                if !lateness.isEmpty {
                    services.counters.endedOrStarted.add(lateness.count)
                    for milliseconds in lateness {
                        services.counters.closerLagSeconds.add(Double(milliseconds) / 1_000)
                    }
                    services.relay.notify()
                    // More may be due than one batch takes.
                    continue
                }
            } catch {
                if !isLossLogged {
                    logger.error(
                        "the closer cannot reach PostgreSQL; retrying", metadata: ["error": "\(error)"])
                }
                isLossLogged = true
            }
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.clockInterval) }
        }
    }
}
