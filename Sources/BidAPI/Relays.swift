// The relays of all servers. Each server has one, with a thread of its own, so that a server that hangs
// delays no other. In a cluster, relays come and go with the nodes that serve slots.

import AuctionEvents
import AuctionStore
import Logging
import RedisLink
import Synchronization

final class Relays: Sendable {
    typealias Prepare = @Sendable (PostgresConnection) throws(DatabaseError) -> Void

    let counters = RelayCounters()
    let database: DatabaseServers
    let topology: RedisTopology
    let traces: Traces
    let logger: Logger
    private let state = Mutex(State())

    private struct State {
        /// By the server's number.
        var running: [Int: Relay] = [:]
        /// Their servers have left the cluster.
        var leaving: [Relay] = []
        /// `nil` before the start and after the end.
        var prepare: Prepare?
    }

    init(database: DatabaseServers, topology: RedisTopology, traces: Traces, logger: Logger) {
        self.database = database
        self.topology = topology
        self.traces = traces
        self.logger = logger
    }

    /// Tells the relays that a transaction was committed. Cheap; any thread may call this.
    func notify() {
        for relay in all { relay.notify() }
    }

    private var all: [Relay] { state.withLock { Array($0.running.values) } }

    /// Waits a short time for an auction's committed events to reach Redis.
    func publish(_ auctionID: AuctionID) async {
        guard let server = topology.map.server(of: .auction(auctionID.text)) else { return }
        await state.withLock { $0.running[server] }?.finishRound()
    }

    /// - Parameter prepare: called with each relay's own connection before its first use (migrations).
    func start(prepare: @escaping Prepare) {
        state.withLock { $0.prepare = prepare }
        topology.observe { [weak self] in self?.followTopology() }
        followTopology()
    }

    /// Gives each server a relay, and ends those of servers that have left.
    private func followTopology() {
        state.withLock { state in
            guard let prepare = state.prepare else { return }
            let servers = topology.map.servers
            for (number, relay) in state.running where servers[number] !== relay.server {
                relay.requestStop()
                state.leaving.append(relay)
                state.running[number] = nil
            }
            for (number, server) in servers where state.running[number] == nil {
                let relay = Relay(relays: self, number: number, server: server)
                state.running[number] = relay
                relay.start(prepare: prepare)
            }
            state.leaving.removeAll { $0.hasEnded }
        }
        // A slot that has moved may have events waiting.
        notify()
    }

    /// Publishes what is committed and ends the threads. Blocks.
    func stop() {
        let relays = state.withLock { state in
            state.prepare = nil
            return Array(state.running.values) + state.leaving
        }
        for relay in relays { relay.requestStop() }
        for relay in relays { relay.waitForEnd() }
    }
}

/// What all relays have done. Each relay adds on its own thread.
final class RelayCounters: Sendable {
    let published = BidAPICounters.Count()
    let pushed = BidAPICounters.Count()
    let refilled = BidAPICounters.Count()
    let aheadOfDatabase = BidAPICounters.Count()
    let redisFailures = BidAPICounters.Count()
}
