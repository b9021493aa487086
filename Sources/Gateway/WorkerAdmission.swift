// Who is let in: accepting, and the limits on connections - in all, of one address, in a second, and by
// memory. What is over a limit is refused in the words of its transport as far as there is room for that, and
// closed beyond.

import Fanout
import Glibc
import Logging
import Reactor
import Synchronization
import Telemetry
import Wire

/// Whom a connection comes from, and for whom it is counted.
struct Client {
    let peer: ClientAddress
    /// `nil` until a trusted proxy has said whom it speaks for.
    var counted: ClientAddress?
}

/// How many connections each address has, over all loops. A lock that accepts and closes take where addresses
/// are limited; deliveries never do.
final class AddressTable: Sendable {
    private let counts = Mutex<[ClientAddress: Int]>([:])

    /// Returns how many it now has.
    func add(_ address: ClientAddress) -> Int {
        counts.withLock { counts in
            counts[address, default: 0] += 1
            return counts[address] ?? 0
        }
    }

    func remove(_ address: ClientAddress) {
        counts.withLock { counts in
            guard let count = counts[address], count > 1 else {
                counts.removeValue(forKey: address)
                return
            }
            counts[address] = count - 1
        }
    }
}

extension Worker {
    // MARK: Accepting

    func acceptAll(_ listener: Int32?, for kind: ListenerKind) {
        guard let listener else { return }
        for _ in 0..<Limits.acceptsPerTurn {
            guard kind == .admin || mayAccept() else { return pauseAccepting() }
            do throws(Errno) {
                guard let descriptor = try Sockets.accept(listener) else { return }
                if kind != .admin { noteAccept() }
                guard let slot = admit(descriptor, from: kind) else { continue }
                // The request is often there already, which saves a turn.
                readConnection(slot)
            } catch {
                return shedOne(listener, error)
            }
        }
    }

    /// Accepts whoever waits on a listener that is about to close, whatever the rate.
    func emptyQueue(of listener: Int32, for kind: ListenerKind) {
        do throws(Errno) {
            while let descriptor = try Sockets.accept(listener) {
                if let slot = admit(descriptor, from: kind) { readConnection(slot) }
            }
        } catch {
            logger.error("connections cannot be accepted", metadata: ["error": "\(error)"])
        }
    }

    private func mayAccept() -> Bool {
        let rate = configuration.acceptsPerSecond
        guard rate > 0 else { return true }
        return acceptBucket.hasToken(rate: rate, burst: max(1, rate / 10), now: nowMilliseconds)
    }

    /// Counts a connection against `accepts-per-second`: only accepted connections count, not empty attempts.
    private func noteAccept() {
        let rate = configuration.acceptsPerSecond
        guard rate > 0 else { return }
        _ = acceptBucket.take(rate: rate, burst: max(1, rate / 10), now: nowMilliseconds)
    }

    private func admit(_ descriptor: Int32, from kind: ListenerKind) -> UInt32? {
        handle.counters.accepted.add()
        let open = countConnection(kind, 1)
        let limit =
            kind == .admin ? Limits.adminConnections : configuration.maxConnections + Limits.refusalReserve
        guard open <= limit, let slot = slab.insert(descriptor: descriptor) else {
            handle.counters.overCapacity.add()
            countConnection(kind, -1)
            Sockets.close(descriptor)
            return nil
        }
        if kind == .admin {
            slab[slot].flags.insert(.isAdmin)
        } else if open > configuration.maxConnections || shared.isOverMemory.load(ordering: .relaxed)
            || drainStartedAt != nil
        {
            slab[slot].flags.insert(.isRefused)
        }
        do throws(Errno) {
            try poller.add(descriptor, .readable, token: token(slot))
        } catch {
            logger.error("a connection could not be watched", metadata: ["error": "\(error)"])
            countConnection(kind, -1)
            slab.remove(slot)
            Sockets.close(descriptor)
            return nil
        }
        handle.counters.connections.set(connectionCount)
        guard kind == .admin || meetClient(slot) else {
            closeNow(slot)
            return nil
        }
        guard kind == .secure else {
            let seconds = configuration.headSeconds
            schedule(slot, seconds: drainStartedAt == nil ? seconds : min(seconds, Limits.drainHeadSeconds))
            return slot
        }
        return beginSecuring(slot) ? slot : nil
    }

    /// Counts a connection that came (1) or went (−1). Those of the admin listener have a count and a bound
    /// of their own: a gateway that is full must still say that it is well. Returns how many there are.
    @discardableResult
    func countConnection(_ kind: ListenerKind, _ change: Int) -> Int {
        if kind == .admin {
            adminConnections += change
            return adminConnections
        }
        return shared.connectionCount.add(change, ordering: .relaxed).newValue
    }

    // MARK: Addresses

    /// Notes whom a new connection comes from. False when that address has far too many: it is not even told
    /// so.
    private func meetClient(_ slot: UInt32) -> Bool {
        guard configuration.maxConnectionsPerAddress > 0,
            let peer = Sockets.peer(of: slab[slot].descriptor)
        else { return true }
        clients[slot] = Client(peer: peer)
        let isProxy = configuration.trustedProxies.contains { $0.contains(peer) }
        return isProxy || count(slot, for: peer.network)
    }

    /// Counts a connection for an address; it is refused when that has too many. False as in
    /// ``meetClient(_:)``.
    private func count(_ slot: UInt32, for address: ClientAddress) -> Bool {
        guard clients[slot]?.counted != address, configuration.maxConnectionsPerAddress > 0 else {
            return true
        }
        if let earlier = clients[slot]?.counted { shared.addresses.remove(earlier) }
        clients[slot]?.counted = address
        slab[slot].flags.remove(.isOverAddressLimit)
        let excess = shared.addresses.add(address) - configuration.maxConnectionsPerAddress
        guard excess > 0 else { return true }
        handle.counters.overAddressLimit.add()
        slab[slot].flags.insert(.isOverAddressLimit)
        return excess <= Limits.refusalsPerAddress
    }

    /// Counts a request that came through a trusted proxy for the client it names.
    func recogniseClient(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) {
        guard let client = clients[slot],
            configuration.trustedProxies.contains(where: { $0.contains(client.peer) })
        else { return }
        // Several lines are one list.
        var field = ""
        for line in head.forwardedFor { field += bytes.text(line) + "," }
        // A proxy's own requests, such as its health checks, name nobody and are not limited.
        guard
            let found = ForwardedClient.find(
                field, peer: client.peer, trusted: configuration.trustedProxies)
        else { return }
        _ = count(slot, for: found.network)
    }

    func forgetClient(_ slot: UInt32) {
        guard let counted = clients.removeValue(forKey: slot)?.counted else { return }
        shared.addresses.remove(counted)
    }

    // MARK: Pauses

    /// No descriptor was left: uses the spare one to take a connection off the queue and close it, so that
    /// its client learns of it, and then leaves the queue alone for a moment.
    private func shedOne(_ listener: Int32, _ error: Errno) {
        handle.counters.overCapacity.add()
        if exhaustionLoggedAt.map({ nowMilliseconds - $0 > Limits.exhaustionLogMilliseconds }) ?? true {
            exhaustionLoggedAt = nowMilliseconds
            logger.error("connections cannot be accepted", metadata: ["error": "\(error)"])
        }
        pauseAccepting()
        guard error.code == EMFILE || error.code == ENFILE else { return }
        if spareDescriptor >= 0 { Sockets.close(spareDescriptor) }
        let descriptor = accept(listener, nil, nil)
        if descriptor >= 0 { Sockets.close(descriptor) }
        spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    /// Leaves new connections in the kernel's queue for a moment: a listener that stays readable would keep
    /// the loop turning.
    private func pauseAccepting() {
        guard acceptsPausedUntil == nil else { return }
        handle.counters.acceptPauses.add()
        acceptsPausedUntil = nowMilliseconds + Limits.acceptPauseMilliseconds
        if let listener { poller.modify(listener, [], token: OwnDescriptor.listener) }
        if let secureListener { poller.modify(secureListener, [], token: OwnDescriptor.secureListener) }
    }

    func resumeAccepting() {
        guard let until = acceptsPausedUntil, nowMilliseconds >= until else { return }
        acceptsPausedUntil = nil
        if let listener { poller.modify(listener, .readable, token: OwnDescriptor.listener) }
        if let secureListener {
            poller.modify(secureListener, .readable, token: OwnDescriptor.secureListener)
        }
    }

    /// Compares the process's memory with its ceiling once a second; loop 0 does it for all.
    func checkMemory() {
        guard handle.index == 0, nowMilliseconds >= nextMemoryCheckAt else { return }
        nextMemoryCheckAt = nowMilliseconds + Limits.memoryCheckMilliseconds
        let isOver = ProcessMemory.residentBytes() > configuration.maxMemoryBytes
        guard isOver != shared.isOverMemory.exchange(isOver, ordering: .relaxed), isOver else { return }
        logger.warning(
            "memory is above max-memory-bytes; new watchers are refused",
            metadata: ["limit": "\(configuration.maxMemoryBytes)"])
    }

    // MARK: Refusals

    /// Why a connection's requests are refused, and as what; `nil` when they are not.
    func refusal(_ slot: UInt32) -> HTTPResponse? {
        let retry: HTTPFields = [("Retry-After", "\((retryMilliseconds() + 999) / 1_000)")]
        if slab[slot].flags.contains(.isOverAddressLimit) {
            return .error(
                .tooManyRequests, "TOO_MANY_CONNECTIONS", "your address has too many connections",
                fields: retry)
        }
        guard slab[slot].flags.contains(.isRefused) else { return nil }
        guard drainStartedAt == nil else {
            return .error(.serviceUnavailable, "LEAVING", "\(Self.leaving); come back later", fields: retry)
        }
        return .error(
            .serviceUnavailable, "OVER_CAPACITY", "this gateway is full; come back later", fields: retry)
    }

    // MARK: Talk

    /// Whether a client may send one more frame now.
    func mayTalk(_ slot: UInt32) -> Bool {
        let rate = configuration.messagesPerSecond
        guard rate > 0, slab[slot].phase != .echoing else { return true }
        // A client of many auctions subscribes to all of them at once, and may do so again.
        let subscribing =
            slab[slot].phase == .bundling ? Limits.subscribingRounds * configuration.maxSubscriptions : 0
        let burst = max(rate * Limits.messageBurstSeconds, subscribing)
        var bucket = talkers[slot] ?? RateBucket(burst: burst, now: nowMilliseconds)
        let may = bucket.take(rate: rate, burst: burst, now: nowMilliseconds)
        talkers[slot] = bucket
        if !may { handle.counters.overMessageRate.add() }
        return may
    }
}
