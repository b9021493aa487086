// The work of one relay's thread, with its connections to PostgreSQL and to one Redis server. Each round
// publishes waiting events, pushes notifications to users, and refills a Redis that came back without its
// data. Confined to that thread. The relay logs a failure of either server once, and later rounds retry.
//
// In a cluster, the relay of each node publishes what the node's slots hold. A slot may move at any time, so
// a node may send a publication elsewhere. It stays in the outbox until some node has taken it.

import AuctionEvents
import AuctionStore
import Logging
import Reactor
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

    // In a cluster
    /// The node's tag when the mark was set last.
    private var markedTag: String?
    /// How often the node had gained slots when its auctions were compared last.
    private var comparedGains = 0
    /// When to compare after a gain; `nil` without one.
    private var nextGainComparison: ContinuousClock.Instant?
    /// Connections to nodes that a slot of ours is moving to, by label.
    private var guests: [String: RedisClient] = [:]
    /// True when a slot was on the move in this round.
    private var hasDeferred = false
    /// True when another round should follow soon.
    var isUnsettled: Bool { hasDeferred || server == nil }

    init(relay: Relay, prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void) {
        self.relay = relay
        self.prepare = prepare
    }

    /// - Parameter isLast: true in the final round, which tries a lost Redis at once instead of waiting.
    func round(isLast: Bool) {
        hasDeferred = false
        do throws(DatabaseError) {
            let database = try connect()
            if let server, server.isObsolete {
                lose(RedisClient.Failure(description: "\(relay.server.label) has moved"))
                nextConnection = ContinuousClock.now
            }
            if server == nil, isLast || ContinuousClock.now >= nextConnection { reconnect() }
            // A cluster's node without a slot holds nothing yet.
            guard relay.server.tag != nil || !relay.server.isClusterNode else { return }
            noticeGains()
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
        let new = try PostgresConnection(relay.database)
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

    /// A node that has taken over slots may lack their auctions.
    private func noticeGains() {
        let gains = relay.server.gains
        if gains != comparedGains, nextGainComparison == nil {
            nextGainComparison = ContinuousClock.now + Limits.gainComparisonDelay
        }
        guard let due = nextGainComparison, ContinuousClock.now >= due else { return }
        nextGainComparison = nil
        comparedGains = gains
        needsComparison = true
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
            let own = waiting.filter { relay.owns(.auction($0)) && !refused.contains($0) }
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
        let scripts = page.map { Script($0, mode: .next, publishFrom: $0.first) }
        let start = Clock.wallMicroseconds()
        for (publication, reply) in zip(page, run(scripts) ?? []) {
            guard var held = held(reply, publication.auctionID) else { continue }
            if held + 1 < publication.first {
                guard case .holds(let sequence) = try refill(publication.auctionID, database, after: held)
                else {
                    continue
                }
                held = sequence
            }
            guard held + 1 >= publication.first else { continue }
            trace(publication, from: start)
            done.append(
                Outbox.Progress(
                    auctionID: publication.auctionID, first: publication.first,
                    last: min(held, publication.last)))
        }
        return done
    }

    /// - Parameter start: in microseconds since 1970.
    private func trace(_ publication: Publication, from start: Int64) {
        guard relay.traces.writesSpans else { return }
        for event in publication.events where event.contains("\"traceparent\"") {
            guard case .success(let envelope) = EventEnvelope.scan(Array(event.utf8).span, auctionID: nil),
                let context = envelope.trace
            else { continue }
            relay.traces.step(
                "publish", .producer, of: context, from: start,
                [
                    ("gavelcast.auction", .text(publication.auctionID)),
                    ("gavelcast.seq", .number(Int(envelope.sequence))),
                ])
        }
    }

    /// Pushes waiting notifications to the users' own channels.
    private func pushNotifications(_ database: PostgresConnection) throws(DatabaseError) {
        var cursor: Int64 = 0
        while case let waiting = try Notifications.waiting(database, after: cursor), let last = waiting.last {
            cursor = last.number
            let own = waiting.filter { relay.owns(.user($0.userID)) }.map(\.number)
            guard !own.isEmpty else { continue }
            let taken = try Notifications.take(database, own)
            let commands = taken.map { _, notification in
                [publish, RedisKeys.userChannel(notification.notice.userID), notification.json]
            }
            guard let replies = send(commands) else {
                return try Notifications.giveBack(database, taken.map(\.number))
            }
            let deferred = zip(taken, replies).filter { isDeferred($1) }.map(\.0.number)
            if !deferred.isEmpty { try Notifications.giveBack(database, deferred) }
            relay.counters.pushed.add(taken.count - deferred.count)
        }
    }

    // MARK: Redis

    private func reconnect() {
        needsComparison = true
        hasAcceptedWrite = false
        refused = []
        do throws(RedisClient.Failure) {
            server = try RedisClient(endpoint: relay.server, skippedAddresses: attempts)
        } catch {
            lose(error)
        }
    }

    /// Checks periodically that the server answers and still has its data, even when there is nothing to
    /// publish.
    private func checkServer() {
        guard server != nil, !needsComparison, ContinuousClock.now >= nextCheck else { return }
        nextCheck = ContinuousClock.now + Limits.serverCheckInterval
        // A cluster's node that serves other slots now has its mark under another name.
        guard markedTag == relay.server.tag else {
            _ = mark()
            return
        }
        guard let reply = send([["GET", filledMark]])?[0] else { return }
        switch reply {
        case .bytes: break
        case .error where isDeferred(reply): break
        case .error(let text): lose(RedisClient.Failure(description: text))
        default:
            relay.logger.warning("Redis has lost its data; filling it again", metadata: serverLabel)
            needsComparison = true
        }
    }

    private var publish: String { relay.server.isClusterNode ? "SPUBLISH" : "PUBLISH" }
    private var filledMark: String { relay.server.own(RedisKeys.filled) }

    /// Publishes the heartbeat once a second, once the server has accepted a write on this connection.
    private func beat() {
        guard server != nil, hasAcceptedWrite, ContinuousClock.now >= nextBeat else { return }
        nextBeat = ContinuousClock.now + Limits.heartbeatInterval
        var commands = [[publish, relay.server.own(RedisKeys.relay), "1"]]
        if relay.isHeraldOfCluster { commands.append(["PUBLISH", RedisKeys.relay, "1"]) }
        guard let reply = send(commands)?[0], !isDeferred(reply) else { return }
        guard let refusal = reply.refusal, !isBeatRefusalLogged else { return }
        isBeatRefusalLogged = true
        relay.logger.warning(
            "Redis denies the relay's heartbeat; unless it is allowed, gateways cannot detect a wrong Redis",
            metadata: serverLabel.merging(["error": "\(refusal)"]) { _, new in new })
    }

    /// Marks the server as filled. When it takes no writes at all, returns false and counts the server as
    /// lost.
    private func mark() -> Bool {
        let tag = relay.server.tag
        guard let reply = send([["SET", filledMark, "1"]])?[0] else { return false }
        // Where only the mark's own slot is on its way to another node, this one takes all other writes.
        let isMigrating =
            relay.server.isClusterNode && reply.refusal.flatMap(RedisRedirect.init)?.isAsk == true
        guard isMigrating || !isDeferred(reply) else { return false }
        guard case .error(let text) = reply, !isMigrating else {
            hasAcceptedWrite = true
            markedTag = tag
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
            let own = page.filter { relay.owns(.auction($0.auctionID)) }
            guard let replies = run(own.map { Script($0, mode: .next, publishFrom: $0.first) }) else {
                return false
            }
            var ahead: [String: SequenceNumber] = [:]
            for (publication, reply) in zip(own, replies) {
                // Refilling many auctions takes longer than gateways wait for a heartbeat.
                beat()
                guard let held = held(reply, publication.auctionID) else { continue }
                if held < publication.last {
                    _ = try refill(publication.auctionID, database, after: held)
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
            relay.counters.aheadOfDatabase.add()
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
    /// - Parameter known: the last sequence number that the server holds; 0 when that is not known. A new
    ///   master may lack events that the old one has published. Gateways that read the new master's state
    ///   need them, and the others drop them.
    private func refill(
        _ auctionID: String, _ database: PostgresConnection, after known: SequenceNumber = 0
    ) throws(DatabaseError) -> Refill {
        guard let (publication, firstUnpublished) = try Outbox.refill(database, auctionID: auctionID) else {
            return .nothingToWrite
        }
        let firstUnseen = known > 0 ? min(firstUnpublished, known + 1) : firstUnpublished
        let script = Script(publication, mode: .refill, publishFrom: firstUnseen)
        guard let reply = run([script])?[0], let held = held(reply, auctionID) else { return .refused }
        relay.counters.refilled.add()
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

    private func send(_ commands: [[String]]) -> [RedisReply]? {
        send(commands.map { $0.map { Array($0.utf8) } })
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

    /// One call of the publishing script.
    private struct Script {
        let publication: Publication
        let mode: PublishingScript.Mode
        let publishFrom: UInt64

        init(_ publication: Publication, mode: PublishingScript.Mode, publishFrom: UInt64) {
            self.publication = publication
            self.mode = mode
            self.publishFrom = publishFrom
        }

        func command(publish: String) -> [[UInt8]] {
            PublishingScript.command(publication, mode: mode, publishFrom: publishFrom, publish: publish)
        }

        /// The events that the script publishes if all are new.
        var publishedEvents: [String] {
            let skipped = publishFrom > publication.first ? Int(publishFrom - publication.first) : 0
            return Array(publication.events.dropFirst(skipped))
        }
    }

    private func run(_ scripts: [Script]) -> [RedisReply]? {
        guard let replies = send(scripts.map { $0.command(publish: publish) }) else { return nil }
        guard relay.server.isClusterNode else { return replies }
        return zip(scripts, replies).map { script, reply in
            guard let redirect = reply.refusal.flatMap(RedisRedirect.init), redirect.isAsk,
                let moved = runElsewhere(script, redirect)
            else { return reply }
            return moved
        }
    }

    /// Runs a script at the node that a slot is moving to. Subscriptions stay at this node until the slot has
    /// moved, so the events are published here as well.
    private func runElsewhere(_ script: Script, _ redirect: RedisRedirect) -> RedisReply? {
        guard let node = relay.follow(redirect) else { return nil }
        do throws(RedisClient.Failure) {
            let client = if let guest = guests[node.label] { guest } else { try RedisClient(endpoint: node) }
            guests[node.label] = client
            let asking = Array("ASKING".utf8)
            let reply = try client.pipeline([[asking], script.command(publish: publish)])[1]
            guard let outcome = PublishingScript.Outcome(reply), outcome.added > 0 else { return reply }
            let channel = RedisKeys.channel(script.publication.auctionID)
            _ = send(script.publishedEvents.map { [publish, channel, $0] })
            return reply
        } catch {
            guests[node.label] = nil
            return nil
        }
    }

    /// True when a cluster's node refuses for the moment: the slot is on the move, or has moved. The next
    /// round finds it elsewhere.
    private func isDeferred(_ reply: RedisReply) -> Bool {
        guard relay.server.isClusterNode, let refusal = reply.refusal, refusal.isPassing else { return false }
        if let redirect = RedisRedirect(refusal) {
            _ = relay.follow(redirect)
        } else {
            relay.topology.refresh()
        }
        hasDeferred = true
        return true
    }

    /// The last sequence number that the server holds after the script; `nil` when the server refused.
    private func held(_ reply: RedisReply, _ auctionID: String) -> SequenceNumber? {
        if let outcome = PublishingScript.Outcome(reply) {
            relay.counters.published.add(outcome.added)
            return outcome.held
        }
        guard !isDeferred(reply) else { return nil }
        relay.counters.redisFailures.add()
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
        guests = [:]
        relay.topology.refresh()
        nextConnection = ContinuousClock.now + Limits.serverRetryInterval
        relay.counters.redisFailures.add()
        guard !isRedisLossLogged else { return }
        isRedisLossLogged = true
        relay.logger.error(
            "the relay lost Redis; retrying",
            metadata: serverLabel.merging(["error": "\(error)"]) { _, new in new })
    }

    private var serverLabel: Logger.Metadata { ["redis": "\(relay.server.label)"] }
}
