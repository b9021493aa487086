// Brings committed events from the outbox to Redis, in order, at least once, with the script making it exactly once.
// Each server has a relay and a thread of its own, so that one that hangs delays no other. A relay waits for a commit's
// signal or a quarter of a second, whichever comes first. It also fills a Redis that came back without its data.

import AuctionEvents
import AuctionStore
import Dispatch
import Foundation
import Logging
import RedisLink
import Synchronization
import Telemetry

/// The relays of all servers.
struct Relays: Sendable {
    private let all: [Relay]

    init(databaseURL: String, redisURLs: [RedisURL], logger: Logger) {
        all = redisURLs.indices.map {
            Relay(databaseURL: databaseURL, redisURLs: redisURLs, index: $0, logger: logger)
        }
    }

    /// Says that something was committed. Any thread; cheap.
    func notify() {
        for relay in all { relay.notify() }
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

final class Relay: Sendable {
    /// How long an event committed by another bid API may wait for us, should that one have died.
    private static let pollMilliseconds = 250
    /// Auctions compared with Redis in one batch.
    private static let compareBatch = 200

    let published = Counter()
    let pushed = Counter()
    let refilled = Counter()
    let aheadOfDatabase = Counter()
    let redisFailures = Counter()

    private let signal = DispatchSemaphore(value: 0)
    private let isSignalled = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    private let finished = DispatchGroup()
    private let databaseURL: String
    private let redisURLs: [RedisURL]
    /// Of ``redisURLs``, this relay's.
    private let index: Int
    private let logger: Logger

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
            run(Session(relay: self, prepare: prepare))
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

    private func owns(_ id: String) -> Bool { RedisKeys.server(of: id, count: redisURLs.count) == index }

    private func run(_ session: Session) {
        while true {
            let isLast = isStopping.load(ordering: .acquiring)
            isSignalled.store(false, ordering: .releasing)
            session.round()
            if isLast { return }
            _ = signal.wait(timeout: .now() + .milliseconds(Self.pollMilliseconds))
        }
    }

    // MARK: -

    /// The connections of the relay's thread; confined to it.
    private final class Session {
        private let relay: Relay
        private let prepare: @Sendable (PostgresConnection) throws(DatabaseError) -> Void
        private var database: PostgresConnection?
        private var server: RedisClient?
        private var isDatabaseLossLogged = false
        private var isRedisLossLogged = false
        /// Whether the auctions were not compared to the end since the server was reached.
        private var needsComparison = true

        init(
            relay: Relay, prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void
        ) {
            self.relay = relay
            self.prepare = prepare
        }

        func round() {
            do throws(DatabaseError) {
                let database = try connect()
                if server == nil { reconnect() }
                if server != nil, needsComparison { needsComparison = try !compare(database) }
                while server != nil, try publishAll(database) {}
                if server != nil { try pushNotifications(database) }
            } catch {
                database = nil
                guard !isDatabaseLossLogged else { return }
                isDatabaseLossLogged = true
                relay.logger.error("the relay lost PostgreSQL; retrying", metadata: ["error": "\(error)"])
            }
        }

        private func connect() throws(DatabaseError) -> PostgresConnection {
            if let database { return database }
            let new = try PostgresConnection(url: relay.databaseURL)
            try prepare(new)
            // Losing a "published" mark costs a repeat that Redis refuses; the bids themselves are synchronous.
            try new.query("SET synchronous_commit = off")
            if isDatabaseLossLogged { relay.logger.info("the relay is back at PostgreSQL") }
            isDatabaseLossLogged = false
            database = new
            return new
        }

        /// Publishes a page after the other; true when more was left of an auction than one read brings.
        private func publishAll(_ database: PostgresConnection) throws(DatabaseError) -> Bool {
            var cursor = ""
            var hasMore = false
            while server != nil {
                let waiting = try Outbox.waiting(database, after: cursor)
                guard let last = waiting.last else { return hasMore }
                cursor = last
                let own = waiting.filter(relay.owns)
                guard !own.isEmpty else { continue }
                let page = try Outbox.pending(database, own)
                let done = try publish(page, database)
                if !done.isEmpty { try Outbox.markPublished(database, done) }
                // Only what went on counts: a publication that is refused must not keep the relay turning.
                let moved = Set(done.map(\.auctionID))
                hasMore = hasMore || page.contains { $0.state == nil && moved.contains($0.auctionID) }
            }
            return false
        }

        /// Sends the publications in one pipeline; returns what Redis holds afterwards.
        private func publish(
            _ page: [Publication], _ database: PostgresConnection
        ) throws(DatabaseError) -> [Outbox.Progress] {
            var done: [Outbox.Progress] = []
            let commands = page.map { PublishingScript.command($0, mode: .next, publishFrom: $0.first) }
            for (publication, reply) in zip(page, send(commands) ?? []) {
                guard var held = heldSequence(reply) else { continue }
                if held + 1 < publication.first {
                    held = try refill(publication.auctionID, database) ?? held
                }
                guard held + 1 >= publication.first else { continue }
                done.append(
                    Outbox.Progress(
                        auctionID: publication.auctionID, first: publication.first,
                        last: min(held, publication.last)))
                relay.published.add(publication.events.count)
            }
            return done
        }

        /// Pushes what users are to be told to their own channels.
        private func pushNotifications(_ database: PostgresConnection) throws(DatabaseError) {
            var cursor: Int64 = 0
            while case let waiting = try Notifications.waiting(database, after: cursor),
                let last = waiting.last
            {
                cursor = last.number
                let own = waiting.filter { relay.owns($0.userID) }.map(\.number)
                guard !own.isEmpty else { continue }
                let taken = try Notifications.take(database, own)
                let commands = taken.map {
                    ["PUBLISH", RedisKeys.userChannel($0.notice.userID), $0.json].map { Array($0.utf8) }
                }
                guard send(commands) != nil else { return try Notifications.giveBack(database, own) }
                relay.pushed.add(taken.count)
            }
        }

        // MARK: Redis

        private func reconnect() {
            needsComparison = true
            do throws(RedisClient.Failure) {
                server = try RedisClient(url: relay.redisURLs[relay.index])
            } catch {
                lose(error)
            }
        }

        /// Compares the auctions that are not long over with what the server holds, and refills it where it fell behind;
        /// false when the server did not answer for each.
        private func compare(_ database: PostgresConnection) throws(DatabaseError) -> Bool {
            var cursor = ""
            var isComplete = true
            while true {
                let page = try Outbox.live(database, after: cursor, limit: Relay.compareBatch)
                guard let last = page.last else { break }
                cursor = last.auctionID
                let own = page.filter { relay.owns($0.auctionID) }
                let commands = own.map { PublishingScript.command($0, mode: .next, publishFrom: $0.first) }
                guard let replies = send(commands) else { return false }
                for (publication, reply) in zip(own, replies) {
                    guard let held = heldSequence(reply) else {
                        isComplete = false
                        continue
                    }
                    if held < publication.last {
                        _ = try refill(publication.auctionID, database)
                    } else if held > publication.last {
                        relay.aheadOfDatabase.add()
                        relay.logger.error(
                            "Redis is ahead of PostgreSQL; left alone",
                            metadata: [
                                "auction": "\(publication.auctionID)", "redis": "\(held)",
                                "postgres": "\(publication.last)",
                            ])
                    }
                }
            }
            if isRedisLossLogged { relay.logger.info("the relay is back at Redis") }
            isRedisLossLogged = false
            return isComplete
        }

        /// Writes an auction's last events and state to a server that lacks them; returns what it holds afterwards.
        private func refill(
            _ auctionID: String, _ database: PostgresConnection
        ) throws(DatabaseError) -> UInt64? {
            guard let (publication, firstUnpublished) = try Outbox.refill(database, auctionID: auctionID)
            else {
                return nil
            }
            relay.refilled.add()
            let command = PublishingScript.command(publication, mode: .refill, publishFrom: firstUnpublished)
            return send([command]).flatMap { heldSequence($0[0]) }
        }

        private func send(_ commands: [[[UInt8]]]) -> [RedisReply]? {
            guard let server else { return nil }
            guard !commands.isEmpty else { return [] }
            do throws(RedisClient.Failure) {
                return try server.pipeline(commands)
            } catch {
                lose(error)
                return nil
            }
        }

        private func heldSequence(_ reply: RedisReply) -> UInt64? {
            if let held = reply.integer { return UInt64(max(0, held)) }
            relay.redisFailures.add()
            relay.logger.error("Redis refused a publication", metadata: ["reply": "\(reply)"])
            return nil
        }

        private func lose(_ error: RedisClient.Failure) {
            server = nil
            relay.redisFailures.add()
            guard !isRedisLossLogged else { return }
            isRedisLossLogged = true
            relay.logger.error(
                "the relay lost Redis; retrying",
                metadata: ["redis": "\(relay.redisURLs[relay.index].address)", "error": "\(error)"])
        }
    }
}
