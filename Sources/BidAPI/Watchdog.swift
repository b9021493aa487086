// Tells systemd that the bid API is alive, and that it stops.

import Reactor
import ServiceLifecycle

struct Watchdog: Service {
    let manager: ServiceManager

    func run() async throws {
        let interval = manager.watchdogMilliseconds.map { Duration.milliseconds($0) } ?? .seconds(3_600)
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            manager.alive()
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: interval) }
        }
        manager.stopping()
    }
}
