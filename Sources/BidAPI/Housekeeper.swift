// Deletes now and then what is over: keys of requests, events that Redis has forgotten too, old
// notifications. In small steps, on a connection of the general pool, so that nothing waits for it.

import AuctionStore
import Logging
import ServiceLifecycle

struct Housekeeper: Service {
    let services: Services
    let logger: Logger

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            do {
                while try await services.pool.run(IdempotencyKeys.purge) {}
                while try await services.pool.run(Outbox.prune) {}
                while try await services.pool.run(Notifications.prune) {}
            } catch {
                // What holds it up is told by those who need the database now.
                logger.debug("tidying up was put off", metadata: ["error": "\(error)"])
            }
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.housekeepingInterval) }
        }
    }
}
