// The limits on single clients: connections of one address, over all loops, and messages of one connection.

import Fanout
import Reactor
import Telemetry
import Wire

final class ClientLimits {
    /// Whom a connection comes from, and for whom it is counted.
    private struct Client {
        let peer: ClientAddress
        /// `nil` until a trusted proxy has said whom it speaks for.
        var counted: ClientAddress?
    }

    private let context: LoopContext
    private let connections: Connections
    /// Whom connections come from, where addresses are limited.
    private var clients: [UInt32: Client] = [:]
    /// How many messages a connection may still send, for those that have sent one.
    private var messageBuckets: [UInt32: RateBucket] = [:]

    init(context: LoopContext, connections: Connections) {
        self.context = context
        self.connections = connections
    }

    // MARK: Addresses

    /// Notes whom a new connection comes from. False when that address has far too many: it is not even told
    /// so.
    func meet(_ slot: UInt32) -> Bool {
        let configuration = context.configuration
        guard configuration.maxConnectionsPerAddress > 0,
            let peer = Sockets.peer(of: connections[slot].descriptor)
        else { return true }
        clients[slot] = Client(peer: peer)
        let isProxy = configuration.trustedProxies.contains { $0.contains(peer) }
        return isProxy || count(slot, for: peer.network)
    }

    /// Counts a connection for an address; it is refused when that has too many. False as in ``meet(_:)``.
    private func count(_ slot: UInt32, for address: ClientAddress) -> Bool {
        let most = context.configuration.maxConnectionsPerAddress
        guard clients[slot]?.counted != address, most > 0 else { return true }
        if let earlier = clients[slot]?.counted { context.shared.addresses.remove(earlier) }
        clients[slot]?.counted = address
        connections[slot].flags.remove(.isOverAddressLimit)
        let excess = context.shared.addresses.add(address) - most
        guard excess > 0 else { return true }
        context.counters.overAddressLimit.add()
        connections[slot].flags.insert(.isOverAddressLimit)
        return excess <= Limits.refusalsPerAddress
    }

    /// Counts a request that came through a trusted proxy for the client that it names.
    func recognise(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) {
        let trusted = context.configuration.trustedProxies
        guard let client = clients[slot], trusted.contains(where: { $0.contains(client.peer) }) else {
            return
        }
        // Several lines are one list.
        var field = ""
        for line in head.forwardedFor { field += bytes.text(line) + "," }
        // A proxy's own requests, such as its health checks, name nobody and are not limited.
        guard let found = ForwardedClient.find(field, peer: client.peer, trusted: trusted) else { return }
        _ = count(slot, for: found.network)
    }

    // MARK: Messages

    /// Takes one message from what a client may send; false when it sends too many.
    func takeMessage(_ slot: UInt32) -> Bool {
        let rate = context.configuration.messagesPerSecond
        guard rate > 0, connections[slot].phase != .echoing else { return true }
        // A client of many auctions subscribes to all of them at once, and may do so again.
        let subscribing =
            connections[slot].phase == .multiplexing
            ? Limits.subscribingRounds * context.configuration.maxSubscriptions : 0
        let burst = max(rate * Limits.messageBurstSeconds, subscribing)
        let now = context.nowMilliseconds
        var bucket = messageBuckets[slot] ?? RateBucket(burst: burst, now: now)
        let may = bucket.take(rate: rate, burst: burst, now: now)
        messageBuckets[slot] = bucket
        if !may { context.counters.overMessageRate.add() }
        return may
    }

    /// Forgets a connection that is being freed.
    func forget(_ slot: UInt32) {
        if !messageBuckets.isEmpty { messageBuckets.removeValue(forKey: slot) }
        guard !clients.isEmpty, let counted = clients.removeValue(forKey: slot)?.counted else { return }
        context.shared.addresses.remove(counted)
    }
}
