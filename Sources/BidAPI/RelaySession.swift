// The work of one relay's thread, with its connections to PostgreSQL and to one Redis server. Each round
// publishes waiting events, pushes notifications to users, and refills a Redis that came back without its
// data. Confined to that thread. The relay logs a failure of either server once, and later rounds retry.

import AuctionEvents
import AuctionStore
import Logging
import RedisLink
import Telemetry

final class RelaySession {
    private let relay: Relay
    private let prepare: @Sendable (PostgresConnection) throws(DatabaseError) -> Void
    private var database: PostgresConnection?
    private var server: RedisClient?
    private var isDatabaseLossLogged = false
    private var isRedisLossLogged = false
    /// True while the comparison after a reconnect is unfinished.
    private var needsComparison = true
    private var nextConnection = ContinuousClock.now
    /// True after the server has taken a write over this connection.
    private var hasAcceptedWrite = false
    /// When to check next whether Redis still has its data.
    private var nextCheck = ContinuousClock.now
    private var isBeatRefusalLogged = false
    /// When to publish the next heartbeat.
    private var nextBeat = ContinuousClock.now
    /// Which of the server's addresses is tried first.
    private var attempts = 0
    /// When to check next whether PostgreSQL takes writes.
    private var nextWritableCheck = ContinuousClock.now
    /// Auctions that the server refuses although it takes others.
    private var refused: Set<String> = []
    private var nextRetry = ContinuousClock.now

    init(relay: Relay, prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        self.relay = relay
        self.prepare = prepare
    }

    /// - Parameter isLast: true in the final round, which tries a lost Redis at once instead of waiting.
    func round(isLast: Bool) {
        do throws(DatabaseError) {
            let database = try connect()
            if server == nil, isLast || ContinuousClock.now >= nextConnection { reconnect() }
            checkServer()
            beat()
            if needsComparison { needsComparison = try !compare(database) }
            try retryRefused(database)
            while server != nil, try publishAll(database) {}
            if server != nil { try pushNotifications(database) }
        } catch {
            database = nil
            // A heartbeat needs Redis only, so an outage of PostgreSQL must not stop it.
            beat()
            guard !isDatabaseLossLogged else { return }
            isDatabaseLossLogged = true
            relay.logger.error("the relay lost PostgreSQL; retrying", metadata: ["error": "\(error)"])
        }
    }

    // MARK: PostgreSQL

    private func connect() throws(DatabaseError) -> PostgresConnection {
        if let database {
            try checkWritable(database)
            return database
        }
        let new = try PostgresConnection(url: relay.databaseURL)
        // Keep sending heartbeats while PostgreSQL hangs. Without them, gateways would assume a wrong Redis.
        new.whileWaiting = { [unowned self] in beat() }
        try prepare(new)
        // Losing a "published" mark costs a repeat that Redis refuses; the bids themselves are synchronous.
        try new.query("SET synchronous_commit = off")
        if isDatabaseLossLogged { relay.logger.info("the relay reconnected to PostgreSQL") }
        isDatabaseLossLogged = false
        database = new
        return new
    }

    /// A demoted or read-only server keeps answering reads with stale data, so the relay must notice it.
    private func checkWritable(_ database: PostgresConnection) throws(DatabaseError) {
        guard ContinuousClock.now >= nextWritableCheck else { return }
        nextWritableCheck = ContinuousClock.now + Limits.writableCheckInterval
        try database.requireWritable()
    }

    /// Publishes page after page. True when an auction has more waiting events than one read returns.
    private func publishAll(_ database: PostgresConnection) throws(DatabaseError) -> Bool {
        var cursor = ""
        var hasMore = false
        while server != nil {
            let waiting = try Outbox.waiting(database, after: cursor)
            guard let last = waiting.last else { return hasMore }
            cursor = last
            beat()
            let own = waiting.filter { relay.owns($0) && !refused.contains($0) }
            guard !own.isEmpty else { continue }
            let page = try Outbox.pending(database, own)
            let done = try publish(page, database)
            if !done.isEmpty { try Outbox.markPublished(database, done) }
            // Count only auctions that made progress. A refused publication must not keep the relay looping.
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
            guard var held = held(reply, publication.auctionID) else { continue }
            if held + 1 < publication.first {
                guard case .holds(let sequence) = try refill(publication.auctionID, database) else {
                    continue
                }
                held = sequence
            }
            guard held + 1 >= publication.first else { continue }
            done.append(
                Outbox.Progress(
                    auctionID: publication.auctionID, first: publication.first,
                    last: min(held, publication.last)))
        }
        return done
    }

    /// Pushes waiting notifications to the users' own channels.
    private func pushNotifications(_ database: PostgresConnection) throws(DatabaseError) {
        var cursor: Int64 = 0
        while case let waiting = try Notifications.waiting(database, after: cursor), let last = waiting.last {
            cursor = last.number
            let own = waiting.filter { relay.owns($0.userID) }.map(\.number)
            guard !own.isEmpty else { continue }
            let taken = try Notifications.take(database, own)
            let commands = taken.map { _, notification in
                ["PUBLISH", RedisKeys.userChannel(notification.notice.userID), notification.json].map {
                    Array($0.utf8)
                }
            }
            guard send(commands) != nil else {
                return try Notifications.giveBack(database, taken.map(\.number))
            }
            relay.pushed.add(taken.count)
        }
    }

    // MARK: Redis

    private func reconnect() {
        needsComparison = true
        hasAcceptedWrite = false
        refused = []
        do throws(RedisClient.Failure) {
            server = try RedisClient(url: relay.server, skippedAddresses: attempts)
        } catch {
            lose(error)
        }
    }

    /// Checks periodically that the server answers and still has its data, even when there is nothing to
    /// publish.
    private func checkServer() {
        guard server != nil, !needsComparison, ContinuousClock.now >= nextCheck else { return }
        nextCheck = ContinuousClock.now + Limits.serverCheckInterval
        guard let reply = send([["GET", RedisKeys.filled].map { Array($0.utf8) }])?[0] else { return }
        switch reply {
        case .bytes: break
        case .error(let text): lose(RedisClient.Failure(description: text))
        default:
            relay.logger.warning("Redis has lost its data; filling it again", metadata: serverLabel)
            needsComparison = true
        }
    }

    /// Publishes the heartbeat once a second, once the server has accepted a write on this connection.
    private func beat() {
        guard server != nil, hasAcceptedWrite, ContinuousClock.now >= nextBeat else { return }
        nextBeat = ContinuousClock.now + Limits.heartbeatInterval
        guard let reply = send([["PUBLISH", RedisKeys.relay, "1"].map { Array($0.utf8) }])?[0] else { return }
        guard let refusal = reply.refusal, !isBeatRefusalLogged else { return }
        isBeatRefusalLogged = true
        relay.logger.warning(
            "Redis denies the relay's heartbeat; unless it is allowed, gateways cannot detect a wrong Redis",
            metadata: serverLabel.merging(["error": "\(refusal)"]) { _, new in new })
    }

    /// Marks the server as filled. When it takes no writes at all, returns false and counts the server as
    /// lost.
    private func mark() -> Bool {
        guard let reply = send([["SET", RedisKeys.filled, "1"].map { Array($0.utf8) }])?[0] else {
            return false
        }
        guard case .error(let text) = reply else {
            hasAcceptedWrite = true
            return true
        }
        lose(RedisClient.Failure(description: text))
        return false
    }

    /// Compares the auctions that are live or ended recently with the server's data, and refills where the
    /// server fell behind. False when the server was lost meanwhile.
    private func compare(_ database: PostgresConnection) throws(DatabaseError) -> Bool {
        // Set the mark first. If the server loses its data during the comparison, it loses the mark too.
        guard mark() else { return false }
        var cursor = ""
        while true {
            let page = try Outbox.live(database, after: cursor, limit: Limits.comparedAuctions)
            guard let last = page.last else { break }
            cursor = last.auctionID
            let own = page.filter { relay.owns($0.auctionID) }
            let commands = own.map { PublishingScript.command($0, mode: .next, publishFrom: $0.first) }
            guard let replies = send(commands) else { return false }
            var ahead: [String: SequenceNumber] = [:]
            for (publication, reply) in zip(own, replies) {
                // Refilling many auctions takes longer than gateways wait for a heartbeat.
                beat()
                guard let held = held(reply, publication.auctionID) else { continue }
                if held < publication.last {
                    _ = try refill(publication.auctionID, database)
                } else if held > publication.last {
                    ahead[publication.auctionID] = held
                }
            }
            try report(ahead, database)
        }
        guard server != nil else { return false }
        if isRedisLossLogged { relay.logger.info("the relay reconnected to Redis", metadata: serverLabel) }
        isRedisLossLogged = false
        attempts = 0
        return true
    }

    /// Logs which auctions are ahead in Redis, unless PostgreSQL has caught up since the page was read.
    private func report(
        _ ahead: [String: SequenceNumber], _ database: PostgresConnection
    ) throws(DatabaseError) {
        guard !ahead.isEmpty else { return }
        let committed = try Outbox.sequences(database, Array(ahead.keys))
        for (auctionID, held) in ahead.sorted(by: { $0.key < $1.key }) {
            guard let last = committed[auctionID], held > last else { continue }
            relay.aheadOfDatabase.add()
            relay.logger.error(
                "Redis is ahead of PostgreSQL; the relay leaves it alone: an operator must decide which is right",
                metadata: ["auction": "\(auctionID)", "redis": "\(held)", "postgres": "\(last)"])
        }
    }

    private enum Refill {
        /// The last sequence number that the server holds now.
        case holds(SequenceNumber)
        case nothingToWrite
        case refused
    }

    /// Writes an auction's last events and state to a server that lacks them.
    private func refill(_ auctionID: String, _ database: PostgresConnection) throws(DatabaseError) -> Refill {
        guard let (publication, firstUnpublished) = try Outbox.refill(database, auctionID: auctionID) else {
            return .nothingToWrite
        }
        let command = PublishingScript.command(publication, mode: .refill, publishFrom: firstUnpublished)
        guard let reply = send([command])?[0], let held = held(reply, auctionID) else { return .refused }
        relay.refilled.add()
        return .holds(held)
    }

    private func retryRefused(_ database: PostgresConnection) throws(DatabaseError) {
        guard !refused.isEmpty, ContinuousClock.now >= nextRetry else { return }
        nextRetry = ContinuousClock.now + Limits.refusedAuctionsInterval
        for auctionID in refused {
            if case .refused = try refill(auctionID, database) { continue }
            refused.remove(auctionID)
            relay.logger.info("Redis takes the auction again", metadata: ["auction": "\(auctionID)"])
        }
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

    /// The last sequence number that the server holds after the script; `nil` when the server refused.
    private func held(_ reply: RedisReply, _ auctionID: String) -> SequenceNumber? {
        if let outcome = PublishingScript.Outcome(reply) {
            relay.published.add(outcome.added)
            return outcome.held
        }
        relay.redisFailures.add()
        // A server that refuses all other writes too (read-only, out of memory) counts as lost.
        guard mark() else { return nil }
        guard refused.count < Limits.refusedAuctions else {
            lose(RedisClient.Failure(description: "refuses \(refused.count) auctions: \(reply)"))
            return nil
        }
        if refused.insert(auctionID).inserted {
            relay.logger.error(
                "Redis refuses an auction; retrying",
                metadata: ["auction": "\(auctionID)", "reply": "\(reply)"])
        }
        return nil
    }

    private func lose(_ error: RedisClient.Failure) {
        server = nil
        attempts += 1
        nextConnection = ContinuousClock.now + Limits.serverRetryInterval
        relay.redisFailures.add()
        guard !isRedisLossLogged else { return }
        isRedisLossLogged = true
        relay.logger.error(
            "the relay lost Redis; retrying",
            metadata: serverLabel.merging(["error": "\(error)"]) { _, new in new })
    }

    private var serverLabel: Logger.Metadata { ["redis": "\(relay.server.address)"] }
}
