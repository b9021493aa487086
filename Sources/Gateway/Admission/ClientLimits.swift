// The limits on single clients: connections of one address, over all loops, and messages of one connection.

import Fanout
import Reactor
import Telemetry
import Wire

final class ClientLimits {
    /// A connection's peer, and the address that the connection counts against.
    private struct Client {
        let peer: ClientAddress
        /// `nil` until a trusted proxy has named the client that it speaks for.
        var counted: ClientAddress?
    }

    private let context: LoopContext
    private let connections: Connections
    /// The client of each connection, where addresses are limited.
    private var clients: [UInt32: Client] = [:]
    /// How many messages each connection may still send. Only connections that have sent a message have an
    /// entry.
    private var messageBuckets: [UInt32: RateBucket] = [:]

    init(context: LoopContext, connections: Connections) {
        self.context = context
        self.connections = connections
    }

    // MARK: Addresses

    /// Notes the address that a new connection comes from. Returns false when that address has so many
    /// connections that this one is closed without an answer.
    func meet(_ slot: UInt32) -> Bool {
        let configuration = context.configuration
        guard configuration.maxConnectionsPerAddress > 0,
            let peer = Sockets.peer(of: connections[slot].descriptor)
        else { return true }
        clients[slot] = Client(peer: peer)
        return isTrusted(peer) || count(slot, for: peer.network)
    }

    /// True when this connection must begin with a PROXY protocol header, because a trusted proxy opened it.
    func mustBeIntroduced(_ descriptor: Int32) -> Bool {
        context.configuration.proxyProtocol && (Sockets.peer(of: descriptor).map(isTrusted) ?? false)
    }

    /// Notes the client that a PROXY protocol header names; `nil` when the proxy speaks for itself. Returns
    /// false as ``meet(_:)`` does. If that client is itself a trusted proxy, `X-Forwarded-For` counts.
    func introduce(_ slot: UInt32, _ client: ClientAddress?) -> Bool {
        // `::` is no client's address; it stands for local sockets here.
        guard let client, client != .localSocket, clients[slot] != nil else { return true }
        clients[slot] = Client(peer: client)
        return isTrusted(client) || count(slot, for: client.network)
    }

    /// The address that a connection counts against; `nil` where none counts.
    func address(of slot: UInt32) -> String? {
        clients.isEmpty ? nil : clients[slot]?.counted?.description
    }

    /// Notes the address that a connection from another process counts against.
    func meet(_ slot: UInt32, countedAs address: String?) {
        _ = meet(slot)
        guard let client = clients[slot] else { return }
        let counted = address.flatMap { ClientAddress(text: $0) }
        // A PROXY protocol header named the client of this connection. Requests must not change that.
        if context.configuration.proxyProtocol, isTrusted(client.peer) {
            clients[slot] = counted.map { Client(peer: $0) }
        }
        if let counted { _ = count(slot, for: counted) }
    }

    private func isTrusted(_ peer: ClientAddress) -> Bool {
        peer == .localSocket || context.configuration.trustedProxies.contains { $0.contains(peer) }
    }

    /// Counts a connection against an address. Marks it as refused when the address has too many. Returns
    /// false as ``meet(_:)`` does.
    private func count(_ slot: UInt32, for address: ClientAddress) -> Bool {
        let most = context.configuration.maxConnectionsPerAddress
        guard clients[slot]?.counted != address, most > 0 else { return true }
        if let earlier = clients[slot]?.counted { context.shared.addresses.remove(earlier) }
        clients[slot]?.counted = address
        connections.unmark(slot, .isOverAddressLimit)
        let excess = context.shared.addresses.add(address) - most
        guard excess > 0 else { return true }
        context.counters.refusals.add(.address)
        connections.mark(slot, .isOverAddressLimit)
        return excess <= Limits.refusalsPerAddress
    }

    /// Counts a connection that came through a trusted proxy against the client that the request names.
    func recognise(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) {
        let trusted = context.configuration.trustedProxies
        guard let client = clients[slot], isTrusted(client.peer) else { return }
        // Several lines are one list.
        var field = ""
        for line in head.forwardedFor { field += bytes.text(line) + "," }
        // A proxy's own requests, such as its health checks, name nobody and are not limited.
        guard let found = ForwardedClient.find(field, peer: client.peer, trusted: trusted) else { return }
        _ = count(slot, for: found.network)
    }

    // MARK: Messages

    /// Takes one message from the client's allowance; false when the client sends too many.
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
        if !may { context.counters.refusals.add(.messages) }
        return may
    }

    /// Forgets a connection that is being freed.
    func forget(_ slot: UInt32) {
        if !messageBuckets.isEmpty { messageBuckets.removeValue(forKey: slot) }
        guard !clients.isEmpty, let counted = clients.removeValue(forKey: slot)?.counted else { return }
        context.shared.addresses.remove(counted)
    }
}
