// The relays of all servers. Each server has one, with a thread of its own, so that a server that hangs
// delays no other.

import AuctionEvents
import AuctionStore
import Logging
import RedisLink

struct Relays: Sendable {
    private let all: [Relay]

    init(databaseURL: String, redisURLs: [RedisURL], logger: Logger) {
        all = redisURLs.indices.map {
            Relay(databaseURL: databaseURL, redisURLs: redisURLs, index: $0, logger: logger)
        }
    }

    /// Tells the relays that a transaction was committed. Cheap; any thread may call this.
    func notify() {
        for relay in all { relay.notify() }
    }

    /// Waits a short time for an auction's committed events to reach Redis.
    func publish(_ auctionID: AuctionID) async {
        await all[RedisKeys.server(of: auctionID.text, count: all.count)].finishRound()
    }

    /// - Parameter prepare: called with each relay's own connection before its first use (migrations).
    func start(prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        for relay in all { relay.start(prepare: prepare) }
    }

    /// Publishes what is committed and ends the threads. Blocks.
    func stop() {
        for relay in all { relay.requestStop() }
        for relay in all { relay.waitForEnd() }
    }

    func total(_ count: (Relay) -> Int) -> Int { all.reduce(0) { $0 + count($1) } }
}
