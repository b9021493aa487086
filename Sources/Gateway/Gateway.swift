// Assembles the gateway: opens the ports, starts the loops, leads the drain. Called once by the executable,
// on the main thread, which then only waits for signals.

import CLinux
import Glibc
package import Logging
package import Reactor
package import Settings
import Synchronization

package enum Gateway {
    /// Runs until a signal has drained it.
    /// - Parameter reread: reads the settings anew, for SIGHUP, or tells what is wrong with them.
    /// - Throws: when a port cannot be opened.
    package static func run(
        _ configuration: GatewayConfiguration, logger: Logger,
        reread: () -> Result<GatewayConfiguration, SettingsError>
    ) throws(Errno) {
        Limits.check()
        let signals = blockSignals()
        let shared = try Shared(configuration: configuration)
        let listeners = try openListeners(configuration, on: configuration.listen)
        var secureListeners: [Int32] = []
        if let address = configuration.tlsListen {
            secureListeners = try openListeners(configuration, on: address)
        }
        let adminListener = try Sockets.listen(
            on: configuration.adminListen, sharesPort: false, sendBufferBytes: Limits.adminSendBytes)
        let files = [configuration.listen, configuration.tlsListen, configuration.adminListen]
            .compactMap { $0.flatMap(SocketFile.init(listeningOn:)) }
        for index in shared.loops.indices {
            let own = PublicListeners(
                plain: listeners[index], secure: secureListeners.isEmpty ? nil : secureListeners[index])
            _ = LoopThread(name: "loop-\(index)") {
                runLoop(shared, index: index, listeners: own, adminListener: adminListener, logger: logger)
            }
        }
        logger.info(
            "gateway is listening",
            metadata: [
                "listen": "\(SocketAddress.local(of: listeners[0])?.description ?? "?")",
                "tls_listen": "\(secureListeners.first.flatMap(SocketAddress.local)?.description ?? "off")",
                "admin": "\(SocketAddress.local(of: adminListener)?.description ?? "?")",
                "workers": "\(configuration.workers)", "max_connections": "\(configuration.maxConnections)",
            ])
        waitForSignals(signals, shared, logger, reread: reread)
        for file in files { file.remove() }
    }

    private static func runLoop(
        _ shared: Shared, index: Int, listeners: PublicListeners, adminListener: Int32, logger: Logger
    ) {
        do throws(Errno) {
            let loop = try EventLoop(
                shared: shared, handle: shared.loops[index], listeners: listeners, logger: logger)
            if index == 0 {
                try loop.adopt(
                    feed: AuctionFeed(shared: shared, logger: logger), adminListener: adminListener)
            }
            loop.run()
        } catch {
            preconditionFailure("loop \(index) cannot start: \(error)")
        }
    }

    /// Opens a listener for each loop on one port. When the port is not to be shared, first opens it alone to
    /// check that no other process has it. With SO_REUSEPORT, a second gateway would silently take half of
    /// the watchers.
    private static func openListeners(
        _ configuration: GatewayConfiguration, on address: SocketAddress
    ) throws(Errno) -> [Int32] {
        if address.path != nil { return try openSocketListeners(configuration, on: address) }
        var address = address
        if !configuration.reusePort {
            let probe = try Sockets.listen(on: address, sharesPort: false)
            address = SocketAddress(
                host: address.host, port: SocketAddress.local(of: probe)?.port ?? address.port)
            Sockets.close(probe)
        }
        var listeners: [Int32] = []
        for _ in 0..<configuration.workers {
            let listener = try Sockets.listen(
                on: address, sharesPort: true, sendBufferBytes: configuration.sendBufferBytes)
            address = SocketAddress(
                host: address.host, port: SocketAddress.local(of: listener)?.port ?? address.port)
            listeners.append(listener)
        }
        return listeners
    }

    /// A Unix socket has one queue of connections, from which every loop accepts.
    private static func openSocketListeners(
        _ configuration: GatewayConfiguration, on address: SocketAddress
    ) throws(Errno) -> [Int32] {
        let listener = try Sockets.listen(
            on: address, sharesPort: false, sendBufferBytes: configuration.sendBufferBytes)
        var listeners = [listener]
        for _ in 1..<configuration.workers { listeners.append(try Sockets.duplicate(listener)) }
        return listeners
    }

    // MARK: Signals

    private static func blockSignals() -> sigset_t {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGPIPE] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        return signals
    }

    /// The first SIGTERM or SIGINT starts the drain. A later SIGINT ends the gateway at once. A later SIGTERM
    /// changes nothing, because an orchestrator sends it after asking for a drain.
    private static func waitForSignals(
        _ signals: sigset_t, _ shared: Shared, _ logger: Logger,
        reread: () -> Result<GatewayConfiguration, SettingsError>
    ) {
        var signals = signals
        var configuration = shared.configuration
        var wait = timespec(tv_sec: 0, tv_nsec: 50_000_000)
        while shared.liveLoops.load(ordering: .acquiring) > 0 {
            let signal = sigtimedwait(&signals, nil, &wait)
            if signal == SIGHUP { reload(&configuration, shared, logger, reread: reread) }
            guard signal == SIGTERM || signal == SIGINT else { continue }
            guard !shared.isDraining.exchange(true, ordering: .relaxed) else {
                guard signal == SIGINT else { continue }
                return logger.warning("stopped before the drain was over")
            }
            logger.info(
                "draining", metadata: ["connections": "\(shared.connectionCount.load(ordering: .relaxed))"])
            for loop in shared.loops { _ = loop.mailbox.post(.drain, .always) }
        }
        logger.info("drained")
    }

    /// Takes over the settings that may change while the gateway runs. Invalid settings change nothing.
    private static func reload(
        _ configuration: inout GatewayConfiguration, _ shared: Shared, _ logger: Logger,
        reread: () -> Result<GatewayConfiguration, SettingsError>
    ) {
        do throws(SettingsError) {
            let new = try reread().get()
            let (reloaded, ignored) = try configuration.reloaded(from: new)
            configuration = reloaded
            for loop in shared.loops {
                _ = loop.mailbox.post(.reload(configuration), .always)
            }
            logger.info("settings were reloaded")
            if !ignored.isEmpty {
                logger.warning(
                    "these changed settings need a restart and were ignored",
                    metadata: ["settings": "\(ignored.joined(separator: ", "))"])
            }
        } catch {
            logger.error("settings were not reloaded; nothing changed", metadata: ["error": "\(error)"])
        }
    }
}
