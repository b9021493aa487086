// Sends committed events from the outbox to one Redis server, in order and at least once. The publishing
// script drops repeats, so each event arrives exactly once. Owns the thread, which waits for a commit's
// signal or a quarter of a second, whichever comes first. Then its ``RelaySession`` does a round.

import AuctionStore
import Dispatch
import Foundation
import Logging
import RedisLink
import Synchronization
import Telemetry

final class Relay: Sendable {
    let published = Counter()
    let pushed = Counter()
    let refilled = Counter()
    let aheadOfDatabase = Counter()
    let redisFailures = Counter()

    private let signal = DispatchSemaphore(value: 0)
    private let isSignalled = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    private let finished = DispatchGroup()
    /// The callers that wait for the round under way, or for the next one.
    private let waiting = Mutex(Waiting())
    let databaseURL: String
    private let redisURLs: [RedisURL]
    /// The index of this relay's server in ``redisURLs``.
    private let index: Int
    let logger: Logger

    private struct Waiting {
        var continuations: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextNumber = 0
    }

    init(databaseURL: String, redisURLs: [RedisURL], index: Int, logger: Logger) {
        self.databaseURL = databaseURL
        self.redisURLs = redisURLs
        self.index = index
        self.logger = logger
    }

    func notify() {
        guard !isSignalled.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signal.signal()
    }

    func start(prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        finished.enter()
        let thread = Thread { [self] in
            run(RelaySession(relay: self, prepare: prepare))
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

    /// True when the auction or user `id` belongs to this relay's server.
    func owns(_ id: String) -> Bool { RedisKeys.server(of: id, count: redisURLs.count) == index }

    var server: RedisURL { redisURLs[index] }

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
            _ = signal.wait(timeout: .now() + .milliseconds(Limits.relayPollMilliseconds))
        }
    }
}
