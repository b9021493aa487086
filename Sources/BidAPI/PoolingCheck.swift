// Refuses to work through a pooler that gives each transaction another session. Without this check, requests
// would fail one by one with 503 and 500. Runs once PostgreSQL can be reached.

import AuctionStore
import Dispatch
import ServiceLifecycle

/// The database cannot be used as it is configured.
package struct UnusableDatabase: Error, CustomStringConvertible {
    package let description: String
}

struct PoolingCheck: Service {
    let servers: DatabaseServers

    /// Ends the service group with ``UnusableDatabase`` when there is such a pooler.
    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            if try await isPassed() { break }
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.poolingCheckInterval) }
        }
        try? await gracefulShutdown()
    }

    /// False when PostgreSQL cannot be reached.
    func isPassed() async throws -> Bool {
        let servers = servers
        let outcome: Result<String?, DatabaseError> = await withCheckedContinuation { continuation in
            // Connecting blocks for up to two seconds a host.
            DispatchQueue.global().async {
                continuation.resume(
                    returning: Result { () throws(DatabaseError) in try SessionPooling.fault(servers) })
            }
        }
        switch outcome {
        case .success(nil): return true
        case .success(let reason?): throw UnusableDatabase(description: reason)
        case .failure: return false
        }
    }
}
