// Sends committed events from the outbox to one Redis server, in order and at least once. The publishing
// script drops repeats, so each event arrives exactly once. Owns the thread, which waits for a commit's
// signal or a quarter of a second, whichever comes first. Then its ``RelaySession`` does a round.

import AuctionStore
import Dispatch
import Foundation
import Logging
import RedisLink
import Synchronization

final class Relay: Sendable {
    private let signal = DispatchSemaphore(value: 0)
    private let isSignalled = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    private let finished = DispatchGroup()
    /// The callers that wait for the round under way, or for the next one.
    private let waiting = Mutex(Waiting())
    /// True after the thread has ended.
    private let isOver = Atomic<Bool>(false)
    private unowned let relays: Relays
    let server: RedisEndpoint
    /// The server's number in the topology.
    private let number: Int

    private struct Waiting {
        var continuations: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextNumber = 0
    }

    init(relays: Relays, number: Int, server: RedisEndpoint) {
        self.relays = relays
        self.number = number
        self.server = server
    }

    var database: DatabaseServers { relays.database }
    var topology: RedisTopology { relays.topology }
    var counters: RelayCounters { relays.counters }
    var logger: Logger { relays.logger }
    var traces: Traces { relays.traces }
    var hasEnded: Bool { isOver.load(ordering: .acquiring) }

    func notify() {
        guard !isSignalled.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signal.signal()
    }

    func start(prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        finished.enter()
        let thread = Thread { [self] in
            run(RelaySession(relay: self, prepare: prepare))
            isOver.store(true, ordering: .releasing)
            finished.leave()
        }
        thread.name = "relay"
        thread.start()
    }

    func requestStop() {
        isStopping.store(true, ordering: .releasing)
        signal.signal()
    }

    func waitForEnd() { finished.wait() }

    /// True when this relay's server holds the auction or user.
    func owns(_ owner: RedisOwner) -> Bool { topology.map.server(of: owner) == number }

    /// True for the one relay of a cluster that also publishes the heartbeat to the whole cluster: its node
    /// serves the slot of the heartbeat's name.
    var isHeraldOfCluster: Bool {
        topology.map.server(ofSlot: RedisSlots.slot(of: RedisKeys.relay)) == number
    }

    /// Takes a redirect of this relay's server. Returns the server to go to.
    func follow(_ redirect: RedisRedirect) -> RedisEndpoint? {
        topology.map.servers[topology.follow(redirect, from: number)]
    }

    /// Waits for a round that begins after the call, but at most ``Limits/longestRound``: the server may
    /// hang.
    func finishRound() async {
        await withCheckedContinuation { continuation in
            let number = waiting.withLock { waiting in
                waiting.nextNumber += 1
                waiting.continuations[waiting.nextNumber] = continuation
                return waiting.nextNumber
            }
            Task {
                try? await Task.sleep(for: Limits.longestRound)
                resume([number])
            }
            notify()
        }
    }

    private func resume(_ numbers: [Int]) {
        let continuations = waiting.withLock { waiting in
            numbers.compactMap { waiting.continuations.removeValue(forKey: $0) }
        }
        for continuation in continuations { continuation.resume() }
    }

    private func run(_ session: RelaySession) {
        while true {
            let isLast = isStopping.load(ordering: .acquiring)
            isSignalled.store(false, ordering: .releasing)
            let served = waiting.withLock { Array($0.continuations.keys) }
            session.round(isLast: isLast)
            resume(served)
            if isLast { return }
            let pause = session.isUnsettled ? Limits.unsettledMilliseconds : Limits.relayPollMilliseconds
            _ = signal.wait(timeout: .now() + .milliseconds(pause))
        }
    }
}
