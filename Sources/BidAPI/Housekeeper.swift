// Periodically deletes expired rows: idempotency keys, events that Redis has forgotten too, and old
// notifications. Works in small steps on a connection of the general pool, so that no request waits for it.

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
                // Callers that need the database now report the cause.
                logger.debug("cannot delete expired rows; retrying later", metadata: ["error": "\(error)"])
            }
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.housekeepingInterval) }
        }
    }
}
