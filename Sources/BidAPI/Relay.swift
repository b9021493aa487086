// Brings committed events from the outbox to Redis, in order, at least once, with the script making it exactly once.
// A thread of its own: it waits for a commit's signal or a quarter of a second, whichever comes first. It also fills a
// Redis that came back without its data.

import AuctionEvents
import AuctionStore
import Dispatch
import Foundation
import Logging
import RedisLink
import Synchronization
import Telemetry

final class Relay: Sendable {
    /// How long an event committed by another bid API may wait for us, should that one have died.
    private static let pollMilliseconds = 250
    private static let pruneSeconds = 60.0
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
    private let logger: Logger

    init(databaseURL: String, redisURLs: [RedisURL], logger: Logger) {
        self.databaseURL = databaseURL
        self.redisURLs = redisURLs
        self.logger = logger
    }

    /// Says that something was committed. Any thread; cheap.
    func notify() {
        guard !isSignalled.exchange(true, ordering: .acquiringAndReleasing) else { return }
        signal.signal()
    }

    /// - Parameter prepare: called with the relay's own connection before its first use (migrations).
    func start(prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        finished.enter()
        let thread = Thread { [self] in
            run(Session(relay: self, prepare: prepare))
            finished.leave()
        }
        thread.name = "relay"
        thread.start()
    }

    /// Publishes what is committed and ends the thread. Blocks.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        signal.signal()
        finished.wait()
    }

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
        private var servers: [RedisClient?]
        private var isDatabaseLossLogged = false
        private var isRedisLossLogged: [Bool]
        /// Servers whose auctions were not compared to the end since they were reached.
        private var needsComparison: [Bool]
        private var nextPruneAt = Date.now

        init(
            relay: Relay, prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void
        ) {
            self.relay = relay
            self.prepare = prepare
            servers = relay.redisURLs.map { _ in nil }
            isRedisLossLogged = relay.redisURLs.map { _ in false }
            needsComparison = relay.redisURLs.map { _ in true }
        }

        func round() {
            do throws(DatabaseError) {
                let database = try connect()
                for index in servers.indices {
                    if servers[index] == nil { reconnect(index) }
                    if servers[index] != nil, needsComparison[index] {
                        needsComparison[index] = try !compare(index, database)
                    }
                }
                while try publishAll(database) {}
                try pushNotifications(database)
                if Date.now >= nextPruneAt {
                    nextPruneAt = Date.now + Relay.pruneSeconds
                    try Outbox.prune(database)
                    try Notifications.prune(database)
                }
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
            while true {
                let page = try Outbox.pending(database, after: cursor)
                guard let last = page.last else { return hasMore }
                cursor = last.auctionID
                let done = try publish(page, database)
                if !done.isEmpty { try Outbox.markPublished(database, done) }
                // Only what went on counts: a server that is down must not keep the others' relay turning.
                let moved = Set(done.map(\.auctionID))
                hasMore = hasMore || page.contains { $0.state == nil && moved.contains($0.auctionID) }
            }
        }

        /// Sends each server its publications in one pipeline; returns what Redis holds afterwards.
        private func publish(
            _ page: [Publication], _ database: PostgresConnection
        ) throws(DatabaseError) -> [(auctionID: String, sequence: UInt64)] {
            var done: [(auctionID: String, sequence: UInt64)] = []
            let byServer = Dictionary(grouping: page) {
                RedisKeys.server(of: $0.auctionID, count: servers.count)
            }
            for (index, publications) in byServer {
                let commands = publications.map {
                    PublishingScript.command($0, mode: .next, publishFrom: $0.first)
                }
                guard let replies = send(commands, to: index) else { continue }
                for (publication, reply) in zip(publications, replies) {
                    guard var held = heldSequence(reply) else { continue }
                    if held + 1 < publication.first {
                        held = try refill(publication.auctionID, on: index, database) ?? held
                    }
                    guard held + 1 >= publication.first else { continue }
                    done.append((publication.auctionID, min(held, publication.last)))
                    relay.published.add(publication.events.count)
                }
            }
            return done
        }

        /// Pushes what users are to be told to their own channels.
        private func pushNotifications(_ database: PostgresConnection) throws(DatabaseError) {
            var last: Int64 = 0
            while case let page = try Notifications.take(database, after: last), let end = page.last?.number {
                last = end
                var missed: [Int64] = []
                let byServer = Dictionary(grouping: page) {
                    RedisKeys.server(of: $0.notification.notice.userID, count: servers.count)
                }
                for (index, rows) in byServer {
                    let commands = rows.map(\.notification).map {
                        ["PUBLISH", RedisKeys.userChannel($0.notice.userID), $0.json].map { Array($0.utf8) }
                    }
                    if send(commands, to: index) == nil {
                        missed += rows.map(\.number)
                    } else {
                        relay.pushed.add(rows.count)
                    }
                }
                if !missed.isEmpty { try Notifications.giveBack(database, missed) }
            }
        }

        // MARK: Redis

        private func reconnect(_ index: Int) {
            do throws(RedisClient.Failure) {
                servers[index] = try RedisClient(url: relay.redisURLs[index])
            } catch {
                return lose(index, error)
            }
            if isRedisLossLogged[index] { relay.logger.info("the relay is back at Redis") }
            isRedisLossLogged[index] = false
            needsComparison[index] = true
        }

        /// Compares the live auctions with what the server holds, and refills it where it fell behind; false when the
        /// server did not answer for each.
        private func compare(_ index: Int, _ database: PostgresConnection) throws(DatabaseError) -> Bool {
            var cursor = ""
            var isComplete = true
            while true {
                let page = try Outbox.live(database, after: cursor, limit: Relay.compareBatch)
                guard let last = page.last else { return isComplete }
                cursor = last.auctionID
                let own = page.filter { RedisKeys.server(of: $0.auctionID, count: servers.count) == index }
                let commands = own.map { PublishingScript.command($0, mode: .next, publishFrom: $0.first) }
                guard let replies = send(commands, to: index) else { return false }
                for (publication, reply) in zip(own, replies) {
                    guard let held = heldSequence(reply) else {
                        isComplete = false
                        continue
                    }
                    if held < publication.last {
                        _ = try refill(publication.auctionID, on: index, database)
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
        }

        /// Writes an auction's last events and state to a server that lacks them; returns what it holds afterwards.
        private func refill(
            _ auctionID: String, on index: Int, _ database: PostgresConnection
        ) throws(DatabaseError) -> UInt64? {
            guard let (publication, firstUnpublished) = try Outbox.refill(database, auctionID: auctionID)
            else {
                return nil
            }
            relay.refilled.add()
            let command = PublishingScript.command(publication, mode: .refill, publishFrom: firstUnpublished)
            return send([command], to: index).flatMap { heldSequence($0[0]) }
        }

        private func send(_ commands: [[[UInt8]]], to index: Int) -> [RedisReply]? {
            guard let server = servers[index] else { return nil }
            guard !commands.isEmpty else { return [] }
            do throws(RedisClient.Failure) {
                return try server.pipeline(commands)
            } catch {
                lose(index, error)
                return nil
            }
        }

        private func heldSequence(_ reply: RedisReply) -> UInt64? {
            if let held = reply.integer { return UInt64(max(0, held)) }
            relay.redisFailures.add()
            relay.logger.error("Redis refused a publication", metadata: ["reply": "\(reply)"])
            return nil
        }

        private func lose(_ index: Int, _ error: RedisClient.Failure) {
            servers[index] = nil
            relay.redisFailures.add()
            guard !isRedisLossLogged[index] else { return }
            isRedisLossLogged[index] = true
            relay.logger.error(
                "the relay lost Redis; retrying",
                metadata: ["redis": "\(relay.redisURLs[index].address)", "error": "\(error)"])
        }
    }
}
