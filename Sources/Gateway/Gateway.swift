// Assembles the gateway: opens the ports, starts the loops, leads the drain. Called once by the executable,
// on the main thread, which then only waits for signals.

import CLinux
import Glibc
package import Logging
package import Reactor
package import Settings
import Synchronization
import Telemetry

/// Why a gateway does not start.
package enum GatewayFailure: Error {
    case system(Errno)
    case handover(HandoverFailure)

    /// What is wrong, and what to do about it.
    package var explanation: String {
        switch self {
        case .system(let error): error.listeningFailure
        case .handover(let failure): "takeover-socket: \(failure)"
        }
    }
}

package enum Gateway {
    /// Runs until a signal has drained it.
    /// - Parameter reread: reads the settings anew, for SIGHUP, or tells what is wrong with them.
    /// - Throws: when a port cannot be opened, or the running gateway refuses to hand over.
    package static func run(
        _ configuration: GatewayConfiguration, logger: Logger,
        reread: () -> Result<GatewayConfiguration, SettingsError>
    ) throws(GatewayFailure) {
        Limits.check()
        if let fault = configuration.traceFile.flatMap(SpanFile.fault) {
            logger.warning("spans are dropped", metadata: ["trace-file": "\(fault)"])
        }
        let signals = blockSignals()
        let predecessor = try meetPredecessor(configuration)
        let (shared, ports) = try open(configuration, inherited: predecessor?.listeners ?? [])
        for index in shared.loops.indices {
            _ = LoopThread(name: "loop-\(index)") { runLoop(shared, index: index, logger: logger) }
        }
        if let predecessor {
            takeOver(from: predecessor, shared, ports, logger)
        } else {
            listen(shared, ports, logger)
            shared.manager?.ready()
            awaitSuccessor(shared, ports, logger)
        }
        waitForSignals(signals, shared, logger, reread: reread)
        ports.removeFiles(except: shared.foreignListeners.withLock { $0 })
        shared.takeoverFile.withLock { $0 }?.remove()
        shared.spans?.flush()
    }

    private static func open(
        _ configuration: GatewayConfiguration, inherited: [MovedListener]
    ) throws(GatewayFailure) -> (Shared, ListeningPorts) {
        do throws(Errno) {
            return (
                try Shared(configuration: configuration),
                try ListeningPorts(configuration, inherited: inherited)
            )
        } catch {
            throw .system(error)
        }
    }

    private static func listen(_ shared: Shared, _ ports: ListeningPorts, _ logger: Logger) {
        for (loop, listeners) in zip(shared.loops, ports.loops) {
            _ = loop.mailbox.post(.listen(listeners, admin: loop.index == 0 ? ports.admin : nil), .always)
        }
        let configuration = shared.configuration
        func address(_ listeners: [Int32]) -> String? {
            listeners.first.flatMap(SocketAddress.local)?.description
        }
        logger.info(
            "gateway is listening",
            metadata: [
                "listen": "\(address(ports.loops[0].plain) ?? "?")",
                "tls_listen": "\(address(ports.loops[0].secure) ?? "off")",
                "admin": "\(address([ports.admin]) ?? "?")",
                "workers": "\(configuration.workers)", "max_connections": "\(configuration.maxConnections)",
            ])
    }

    private static func runLoop(_ shared: Shared, index: Int, logger: Logger) {
        do throws(Errno) {
            let loop = try EventLoop(shared: shared, handle: shared.loops[index], logger: logger)
            if index == 0 { try loop.adopt(feed: AuctionFeed(shared: shared, logger: logger)) }
            loop.run()
        } catch {
            preconditionFailure("loop \(index) cannot start: \(error)")
        }
    }

    // MARK: Hand-over

    private static func meetPredecessor(
        _ configuration: GatewayConfiguration
    ) throws(GatewayFailure) -> Predecessor? {
        guard let address = configuration.takeoverSocket else { return nil }
        do throws(HandoverFailure) {
            return try Predecessor.meet(at: address)
        } catch {
            throw .handover(error)
        }
    }

    /// Takes listeners and connections from the process that ran before, on a thread of its own.
    private static func takeOver(
        from predecessor: Predecessor, _ shared: Shared, _ ports: ListeningPorts, _ logger: Logger
    ) {
        logger.info("taking over", metadata: ["from_process": "\(predecessor.process)"])
        shared.foreignListeners.withLock { $0 = ports.inheritedKinds }
        _ = shared.feedMailbox.post(.stopCountingViewers(Reply()), .always)
        LoopThread.detached(name: "handover") {
            let start = Clock.monotonicMilliseconds()
            do throws(HandoverFailure) {
                guard predecessor.connections <= shared.configuration.connectionCeiling else {
                    let ceiling = shared.configuration.connectionCeiling
                    throw .refused(
                        "it has \(predecessor.connections) connections, the limit on open files allows \(ceiling)"
                    )
                }
                try predecessor.prepare(shared)
            } catch {
                logger.critical(
                    "cannot take over; the running gateway keeps serving", metadata: ["error": "\(error)"])
                exit(71)
            }
            var isListening = false
            let count = takeEverything(from: predecessor, shared, ports, logger) {
                if !isListening { listen(shared, ports, logger) }
                isListening = true
            }
            _ = shared.feedMailbox.post(.countViewers, .always)
            guard let count else { return }
            // Not earlier: systemd ends the old process too when its main process dies.
            shared.manager?.ready()
            shared.foreignListeners.withLock { $0 = [] }
            let milliseconds = Clock.monotonicMilliseconds() - start
            logger.info(
                "took over",
                metadata: [
                    "from_process": "\(predecessor.process)", "connections": "\(count)",
                    "milliseconds": "\(milliseconds)",
                ])
            awaitSuccessor(shared, ports, logger)
        }
    }

    /// Takes the connections. When that breaks off, meets the old process again. Returns how many have come;
    /// `nil` when the old process has kept some, and both serve on.
    private static func takeEverything(
        from first: Predecessor, _ shared: Shared, _ ports: ListeningPorts, _ logger: Logger,
        listen: () -> Void
    ) -> Int? {
        guard let address = shared.configuration.takeoverSocket else { return nil }
        var predecessor = first
        var total = 0
        for attempt in 1...Limits.handoverAttempts {
            let outcome = predecessor.takeConnections(Array(ports.inheritedKinds), shared, listen: listen)
            let failure: HandoverFailure
            switch outcome {
            case .complete(let count): return total + count
            case .brokenOff(let count, let reason):
                total += count
                failure = reason
            }
            guard !shared.isDraining.load(ordering: .relaxed) else { return nil }
            logger.error(
                "the hand-over broke off",
                metadata: ["error": "\(failure)", "connections": "\(total)", "attempt": "\(attempt)"])
            guard attempt < Limits.handoverAttempts else { break }
            Clock.pause(milliseconds: Limits.handoverRetryMilliseconds)
            do throws(HandoverFailure) {
                // Nobody is there: the old process has ended.
                guard let again = try Predecessor.meet(at: address) else { return total }
                again.closeListeners()
                try again.prepare(shared)
                predecessor = again
            } catch {
                // It is shutting down, or has ended meanwhile.
                if case .refused = error { return total }
                break
            }
        }
        logger.error(
            "the old process keeps some connections and listens too; stop it",
            metadata: ["process": "\(predecessor.process)"])
        return nil
    }

    /// Waits for the next process, on a thread of its own.
    private static func awaitSuccessor(_ shared: Shared, _ ports: ListeningPorts, _ logger: Logger) {
        guard let address = shared.configuration.takeoverSocket else { return }
        do throws(Errno) {
            let listener = try DescriptorSocket.listen(on: address)
            shared.takeoverFile.withLock { $0 = SocketFile(listeningOn: address) }
            LoopThread.detached(name: "handover") {
                Successor(shared: shared, ports: ports, logger: logger).await(at: listener)
            }
        } catch {
            logger.error(
                "no later process can take over", metadata: ["takeover_socket": "\(error.listeningFailure)"])
        }
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
        var isToDrain = false
        var nextSignOfLife: Int64 = 0
        while shared.liveLoops.load(ordering: .acquiring) > 0 {
            let signal = sigtimedwait(&signals, nil, &wait)
            giveSignOfLife(shared, due: &nextSignOfLife)
            if signal == SIGHUP { reload(&configuration, shared, logger, reread: reread) }
            if isToDrain, signal == SIGINT { return logger.warning("stopped before the drain was over") }
            if signal == SIGTERM || signal == SIGINT { isToDrain = true }
            // Connections on their way to another process belong to nobody here who could tell them to leave.
            guard isToDrain, !shared.isHandingOver.load(ordering: .acquiring),
                !shared.isDraining.exchange(true, ordering: .relaxed)
            else { continue }
            // A process that has handed over is not systemd's main process any more.
            if shared.foreignListeners.withLock(\.isEmpty) { shared.manager?.stopping() }
            logger.info(
                "draining", metadata: ["connections": "\(shared.connectionCount.load(ordering: .relaxed))"])
            for loop in shared.loops { _ = loop.mailbox.post(.drain, .always) }
        }
        logger.info("drained")
    }

    /// Tells systemd that the gateway is alive, while every loop makes its turns.
    private static func giveSignOfLife(_ shared: Shared, due: inout Int64) {
        guard let manager = shared.manager, let interval = manager.watchdogMilliseconds else { return }
        let now = Clock.monotonicMilliseconds()
        guard now >= due, shared.loops.allSatisfy({ now - Int64($0.lastTurn.current) <= interval }) else {
            return
        }
        due = now + interval
        manager.alive()
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
