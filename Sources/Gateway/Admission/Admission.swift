// Decides which clients are let in. It owns the listeners and the limits on connections: in all, of one
// address, in a second, and by memory. A connection over a limit is refused in the words of its transport as
// far as there is room for that. Beyond that, it is closed. The event loop calls this room when a listener is
// readable, and once a turn. Requests ask it whether a client must be turned away.

import Fanout
import Glibc
import Logging
import Reactor
import Synchronization
import Telemetry
import Wire

final class Admission {
    static let leaving = "this gateway is shutting down"

    let context: LoopContext
    let connections: Connections

    private var listeners: [ListenerKind: [Int32]] = [:]
    /// The kinds of listeners that another process serves. They stay open here.
    private var suspended: Set<ListenerKind> = []
    /// Held open so that a connection can be accepted and closed when descriptors have run out.
    private var spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    private var adminConnections = 0
    private var acceptBucket: RateBucket
    /// When a pause in accepting ends; `nil` while the loop accepts.
    private(set) var acceptsPausedUntil: Int64?
    private var exhaustionLoggedAt: Int64?
    private var nextMemoryCheckAt: Int64 = 0
    /// The limits on single clients: connections of one address, and messages of one connection.
    let clients: ClientLimits

    init(context: LoopContext, connections: Connections) {
        self.context = context
        self.connections = connections
        clients = ClientLimits(context: context, connections: connections)
        acceptBucket = RateBucket(
            burst: max(1, context.configuration.acceptsPerSecond / 10), now: context.nowMilliseconds)
    }

    deinit {
        if spareDescriptor >= 0 { Glibc.close(spareDescriptor) }
    }

    /// Takes over listeners, and accepts from now on.
    func listen(_ new: [Int32], as kind: ListenerKind) {
        listeners[kind, default: []] += new
        new.forEach { poll($0, kind) }
    }

    /// Leaves listeners of these kinds to another process.
    func suspendListening(_ kinds: Set<ListenerKind>) {
        for kind in kinds.subtracting(suspended) {
            for listener in listeners[kind] ?? [] { connections.poller.remove(listener) }
        }
        suspended.formUnion(kinds)
    }

    /// Accepts again: the other process has gone.
    func resumeListening() {
        let kinds = suspended
        suspended = []
        for kind in kinds {
            let isPaused = acceptsPausedUntil != nil && kind != .admin
            for listener in listeners[kind] ?? [] { poll(listener, kind, isPaused ? [] : .readable) }
        }
    }

    private func poll(
        _ listener: Int32, _ kind: ListenerKind, _ interest: Poller.Interest = .readable
    ) {
        do throws(Errno) {
            try connections.poller.add(listener, interest, token: kind.token)
        } catch {
            preconditionFailure("a listener cannot be polled: \(error)")
        }
    }

    /// Continues what is due once a turn.
    func turn() {
        resumeAccepting()
        checkMemory()
    }

    // MARK: Accepting

    /// Accepts connections that wait on a listener, up to the turn's budget.
    func accept(_ kind: ListenerKind, with handler: any InputHandler, afterEach: () -> Void) {
        guard !suspended.contains(kind) else { return }
        for listener in listeners[kind] ?? [] {
            accept(kind, at: listener, with: handler, afterEach: afterEach)
        }
    }

    private func accept(
        _ kind: ListenerKind, at listener: Int32, with handler: any InputHandler, afterEach: () -> Void
    ) {
        for _ in 0..<Limits.acceptsPerTurn {
            guard kind == .admin || mayAccept() else { return pauseAccepting() }
            do throws(Errno) {
                guard let descriptor = try Sockets.accept(listener) else { return }
                if kind != .admin { noteAccept() }
                // The request has often arrived already. Reading it now saves a turn.
                if let slot = admit(descriptor, from: kind) { connections.read(slot, with: handler) }
                afterEach()
            } catch {
                return shedOne(listener, error)
            }
        }
    }

    /// Accepts every connection in the kernel's queues, then closes the ports. Closing first would reset the
    /// connections that wait.
    func closeListeners(with handler: any InputHandler, afterEach: () -> Void) {
        // What waits at a suspended listener is the other process's.
        for kind in [ListenerKind.plain, .secure] where !suspended.contains(kind) {
            for listener in listeners.removeValue(forKey: kind) ?? [] {
                empty(listener, kind, with: handler, afterEach: afterEach)
                connections.poller.remove(listener)
                Sockets.close(listener)
            }
        }
    }

    private func empty(
        _ listener: Int32, _ kind: ListenerKind, with handler: any InputHandler, afterEach: () -> Void
    ) {
        do throws(Errno) {
            while let descriptor = try Sockets.accept(listener) {
                if let slot = admit(descriptor, from: kind) { connections.read(slot, with: handler) }
                afterEach()
            }
        } catch {
            context.logger.error("connections cannot be accepted", metadata: ["error": "\(error)"])
        }
    }

    /// Closes what is left when the loop has ended.
    func shutDown() {
        for listener in listeners.values.joined() { Sockets.close(listener) }
        listeners = [:]
    }

    private func mayAccept() -> Bool {
        let rate = context.configuration.acceptsPerSecond
        guard rate > 0 else { return true }
        return acceptBucket.hasToken(rate: rate, burst: max(1, rate / 10), now: context.nowMilliseconds)
    }

    /// Counts a connection against `accepts-per-second`: only accepted connections count, not empty attempts.
    private func noteAccept() {
        let rate = context.configuration.acceptsPerSecond
        guard rate > 0 else { return }
        _ = acceptBucket.take(rate: rate, burst: max(1, rate / 10), now: context.nowMilliseconds)
    }

    private func admit(_ descriptor: Int32, from kind: ListenerKind) -> UInt32? {
        let configuration = context.configuration
        context.counters.accepted.add()
        let open = countConnection(isAdmin: kind == .admin, 1)
        let limit =
            kind == .admin ? Limits.adminConnections : configuration.maxConnections + Limits.refusalReserve
        let isIntroduced = kind == .admin || !clients.mustBeIntroduced(descriptor)
        guard open <= limit, let slot = insert(descriptor, from: kind, isIntroduced: isIntroduced) else {
            context.counters.refusals.add(.capacity)
            countConnection(isAdmin: kind == .admin, -1)
            Sockets.close(descriptor)
            return nil
        }
        if kind == .admin {
            connections.mark(slot, .isAdmin)
        } else {
            let isFull = open > configuration.maxConnections || isOverMemory
            // A draining gateway still answers requests, on a connection that it then closes. It takes no
            // watchers any more.
            if isFull { connections.mark(slot, .isRefused) }
            guard clients.meet(slot) else {
                connections.end(slot, .abrupt)
                return nil
            }
        }
        // A proxy's header comes before the TLS handshake.
        let isSecure = connections[slot].phase == .securing
        return begin(slot, isSecure: isSecure) ? slot : nil
    }

    /// A proxy has named the client of a connection, which may begin now.
    func introduce(_ slot: UInt32, client: [UInt8]?, isSecure: Bool) {
        guard clients.introduce(slot, client.flatMap { ClientAddress(octets: $0) }) else {
            return connections.end(slot, .abrupt)
        }
        connections.transition(slot, to: isSecure ? .securing : .readingHead)
        _ = begin(slot, isSecure: isSecure)
    }

    /// Starts the TLS handshake, or the deadline for the first bytes. Returns false when no TLS session can
    /// be created. The connection then ends.
    private func begin(_ slot: UInt32, isSecure: Bool) -> Bool {
        guard isSecure else {
            let seconds = context.configuration.headSeconds
            connections.schedule(
                slot, seconds: context.isDraining ? min(seconds, Limits.drainHeadSeconds) : seconds)
            return true
        }
        guard connections.beginSecuring(slot) else {
            connections.end(slot, .abrupt)
            return false
        }
        return true
    }

    /// Takes in a connection that another process accepted; `nil` when there is no room, and it is closed.
    /// - Parameter address: that it counts against.
    func adopt(_ descriptor: Int32, address: String?) -> UInt32? {
        countConnection(isAdmin: false, 1)
        guard let slot = insert(descriptor, from: .plain, isIntroduced: true) else {
            context.counters.refusals.add(.capacity)
            countConnection(isAdmin: false, -1)
            Sockets.close(descriptor)
            return nil
        }
        clients.meet(slot, countedAs: address)
        // It was let in already.
        connections.unmark(slot, .isOverAddressLimit)
        connections.mark(slot, .cameByHandover)
        return slot
    }

    private func insert(_ descriptor: Int32, from kind: ListenerKind, isIntroduced: Bool) -> UInt32? {
        do throws(Errno) {
            return try connections.insert(
                descriptor, isSecure: kind == .secure, isIntroduced: isIntroduced)
        } catch {
            context.logger.error("closed a new connection: epoll refused it", metadata: ["error": "\(error)"])
            return nil
        }
    }

    /// Counts a connection that came (1) or went (−1). Returns how many there are. The admin listener has a
    /// count and a bound of its own, because a full gateway must still report that it is healthy.
    @discardableResult
    private func countConnection(isAdmin: Bool, _ change: Int) -> Int {
        guard isAdmin else {
            return context.shared.connectionCount.add(change, ordering: .relaxed).newValue
        }
        adminConnections += change
        return adminConnections
    }

    /// Connections of this loop's public listeners.
    var publicConnections: Int { connections.count - adminConnections }

    /// Forgets a connection that is being freed.
    func forget(_ slot: UInt32) {
        clients.forget(slot)
        countConnection(isAdmin: connections[slot].flags.contains(.isAdmin), -1)
    }

    // MARK: Pauses

    /// Pauses accepting for a moment. When no descriptor is left, also uses the spare one to take a
    /// connection off the queue and close it, so that its client learns of it.
    private func shedOne(_ listener: Int32, _ error: Errno) {
        context.counters.refusals.add(.descriptors)
        let now = context.nowMilliseconds
        if exhaustionLoggedAt.map({ now - $0 > Limits.exhaustionLogMilliseconds }) ?? true {
            exhaustionLoggedAt = now
            context.logger.error("connections cannot be accepted", metadata: ["error": "\(error)"])
        }
        pauseAccepting()
        guard error.code == EMFILE || error.code == ENFILE else { return }
        if spareDescriptor >= 0 { Sockets.close(spareDescriptor) }
        let descriptor = Glibc.accept(listener, nil, nil)
        if descriptor >= 0 { Sockets.close(descriptor) }
        spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    /// Leaves new connections in the kernel's queue for a moment. Otherwise a listener that stays readable
    /// would keep the loop turning.
    private func pauseAccepting() {
        guard acceptsPausedUntil == nil else { return }
        context.counters.acceptPauses.add()
        acceptsPausedUntil = context.nowMilliseconds + Limits.acceptPauseMilliseconds
        setInterest([])
    }

    private func resumeAccepting() {
        guard let until = acceptsPausedUntil, context.nowMilliseconds >= until else { return }
        acceptsPausedUntil = nil
        setInterest(.readable)
    }

    private func setInterest(_ interest: Poller.Interest) {
        for (kind, own) in listeners where kind != .admin && !suspended.contains(kind) {
            own.forEach { connections.poller.modify($0, interest, token: kind.token) }
        }
    }

    // MARK: Memory

    private var isOverMemory: Bool { context.shared.isOverMemory.load(ordering: .relaxed) }

    /// Compares the process's memory with its ceiling once a second; loop 0 does it for all.
    private func checkMemory() {
        guard context.handle.index == 0, context.nowMilliseconds >= nextMemoryCheckAt else { return }
        nextMemoryCheckAt = context.nowMilliseconds + Limits.memoryCheckMilliseconds
        let ceiling = context.configuration.maxMemoryBytes
        let isOver = ProcessMemory.residentBytes() > ceiling
        let wasOver = context.shared.isOverMemory.exchange(isOver, ordering: .relaxed)
        guard isOver, !wasOver else { return }
        context.logger.warning(
            "memory is above max-memory-bytes; new watchers are refused", metadata: ["limit": "\(ceiling)"])
    }

    // MARK: Refusals

    /// The answer to every request of a refused connection; `nil` when the connection is not refused.
    func refusal(of slot: UInt32) -> HTTPResponse? {
        let seconds = (context.retryMilliseconds() + 999) / 1_000
        let retry: HTTPFields = [("Retry-After", "\(seconds)")]
        if connections[slot].flags.contains(.isOverAddressLimit) {
            return .error(
                .tooManyRequests, "TOO_MANY_CONNECTIONS", "your address has too many connections",
                fields: retry)
        }
        guard connections[slot].flags.contains(.isRefused) else { return nil }
        context.counters.refusals.add(isOverMemory ? .memory : .capacity)
        return .error(
            .serviceUnavailable, "OVER_CAPACITY", "this gateway is full; come back later", fields: retry)
    }

    /// The dismissal of a client that asks to watch and is turned away; `nil` when the client may watch. A
    /// new watcher also needs memory, which other requests do not.
    func turningAway(_ slot: UInt32) -> Dismissal? {
        let flags = connections[slot].flags
        let retry = context.retryMilliseconds
        guard !context.isDraining else {
            context.counters.refusals.add(.draining)
            return Dismissal(
                code: CloseCode.goingAway, message: Self.leaving, retryMilliseconds: retry())
        }
        guard !flags.contains(.isRefused), !isOverMemory else {
            context.counters.refusals.add(isOverMemory ? .memory : .capacity)
            return Dismissal(
                code: CloseCode.tryAgainLater, message: "this gateway is full", retryMilliseconds: retry())
        }
        guard flags.contains(.isOverAddressLimit) else { return nil }
        return Dismissal(
            code: CloseCode.tryAgainLater, message: "your address has too many connections",
            retryMilliseconds: retry())
    }
}
