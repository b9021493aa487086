// Counts the viewers of each auction over all gateways. Each gateway keeps its own number in a hash beside
// the auction's state, with Redis' time. In the same step it sums up the fresh numbers. Watchers are told the
// sum when it has changed enough, never at each join.

import AuctionEvents
import DequeModule
import Fanout
import LiveProtocol
import Logging
import Reactor
import RedisLink
import Telemetry

/// The reports to one server.
struct ViewerReports {
    /// The script's digest; `nil` until Redis has it.
    var script: String?
    var nextScriptAt: Int64 = 0
    var queue: Deque<FeedChannel> = []
    var inFlight = 0
    var nextRoundAt: Int64 = 0
}

extension AuctionFeed {
    /// KEYS: the auctions' hashes. ARGV: this gateway's id, then its number for each. Returns the sums of the
    /// numbers that are younger than 15 s, by Redis' clock; removes older ones.
    private static let script = """
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local sums = {}
        for index, key in ipairs(KEYS) do
            local count = tonumber(ARGV[index + 1])
            if count > 0 then
                redis.call('HSET', key, ARGV[1], string.format('%d:%.0f', count, now))
                redis.call('EXPIRE', key, 60)
            else
                redis.call('HDEL', key, ARGV[1])
            end
            local sum = 0
            local all = redis.call('HGETALL', key)
            for field = 1, #all, 2 do
                local number, written = string.match(all[field + 1], '^(%d+):(%d+)$')
                if number and now - written < 15000 then
                    sum = sum + number
                else
                    redis.call('HDEL', key, all[field])
                end
            end
            sums[index] = sum
        end
        return sums
        """

    private func loadScript(_ server: FeedServer) {
        guard server.isUp, now >= server.viewers.nextScriptAt else { return }
        server.viewers.nextScriptAt = now + Limits.scriptRetryMilliseconds
        server.command(["SCRIPT", "LOAD", Self.script]) { [unowned self] answer in
            switch answer {
            case .reply(.bytes(let digest)): server.viewers.script = String(decoding: digest, as: UTF8.self)
            case .refused(let refusal): logUncounted(server, refusal)
            case .reply, .lost: break
            }
        }
    }

    // MARK: From the loops

    func takeViewers(_ counts: [LocalViewers], loop: Int) {
        for count in counts {
            // The channel may have been given up after the loop wrote.
            guard let channel = channelsByTopic[count.topic] else { continue }
            setViewers(count.count, on: channel, loop: loop)
        }
    }

    func setViewers(_ count: Int, on channel: FeedChannel, loop: Int) {
        if channel.viewersByLoop.isEmpty {
            guard count > 0 else { return }
            channel.viewersByLoop = [Int](repeating: 0, count: shared.loops.count)
        }
        channel.viewersByLoop[loop] = count
    }

    // MARK: To Redis

    /// Begins a round over all auctions when it is due, and goes on with the one under way.
    func reportViewers() {
        if let reply = viewersForgotten, servers.values.allSatisfy({ $0.viewers.inFlight == 0 }) {
            reply.give(())
            viewersForgotten = nil
        }
        let seconds = shared.configuration.viewersSeconds
        guard seconds > 0, countsViewers else { return }
        for server in servers.values {
            guard server.viewers.script != nil else {
                loadScript(server)
                continue
            }
            if server.viewers.queue.isEmpty, server.viewers.inFlight == 0, now >= server.viewers.nextRoundAt {
                server.viewers.nextRoundAt =
                    now + min(Int64(seconds) * 1_000, Limits.viewersRefreshMilliseconds)
                server.viewers.queue = Deque(
                    channelsByTopic.values.filter {
                        $0.home === server && $0.topic.kind == .auction && !$0.isUncounted
                            && ($0.viewers > 0 || $0.reportedViewers > 0)
                    })
            }
            let (size, most) =
                server.isClusterNode
                ? (1, Limits.viewersReportsInFlight * Limits.viewersBatch)
                : (Limits.viewersBatch, Limits.viewersReportsInFlight)
            while !server.viewers.queue.isEmpty, server.viewers.inFlight < most {
                let count = min(size, server.viewers.queue.count)
                let batch = Array(server.viewers.queue.prefix(count))
                server.viewers.queue.removeFirst(count)
                report(batch.filter { isOpen($0) && $0.home === server }, to: server)
            }
        }
    }

    /// Takes this process's numbers out of Redis: another process counts the same viewers.
    func stopCountingViewers(_ reply: Reply<Void>) {
        countsViewers = false
        viewersForgotten = reply
        for server in servers.values {
            server.viewers.queue = []
            var counted = channelsByTopic.values.filter { $0.home === server && $0.reportedViewers > 0 }[...]
            while !counted.isEmpty {
                report(Array(counted.prefix(server.isClusterNode ? 1 : Limits.viewersBatch)), to: server)
                counted = counted.dropFirst(server.isClusterNode ? 1 : Limits.viewersBatch)
            }
        }
    }

    /// Takes the number of a channel that is given up out of Redis.
    func removeReport(of channel: FeedChannel) {
        channel.home.command(["HDEL", RedisKeys.viewers(channel.topic.id), gatewayID]) { _ in }
    }

    private func report(_ batch: [FeedChannel], to server: FeedServer) {
        guard !batch.isEmpty, let script = server.viewers.script else { return }
        server.viewers.inFlight += 1
        for channel in batch { channel.reportedViewers = countsViewers ? channel.viewers : 0 }
        server.command(
            ["EVALSHA", script, "\(batch.count)"] + batch.map { RedisKeys.viewers($0.topic.id) } + [gatewayID]
                + batch.map { "\($0.reportedViewers)" }
        ) { [unowned self] answer in
            // The link was lost: its reports begin anew with the next one.
            if case .lost = answer { return }
            server.viewers.inFlight -= 1
            switch answer {
            case .reply(.array(let sums)) where sums.count == batch.count:
                for (channel, sum) in zip(batch, sums) where isOpen(channel) {
                    // Another client may have written any number into the hash. The sum must not overflow
                    // here.
                    if let count = sum.integer { announce(Int(max(0, min(count, 1 << 40))), on: channel) }
                }
            case .refused(let refusal) where server.isClusterNode && refusal.isPassing:
                // The next round counts what is on the move now.
                break
            case .refused(let refusal) where refusal.concernsNamesOnly:
                // One key of the batch is to blame. Halving finds it.
                guard batch.count > 1 else {
                    batch[0].isUncounted = true
                    return logUncounted(server, refusal)
                }
                let middle = batch.count / 2
                report(Array(batch[..<middle]), to: server)
                report(Array(batch[middle...]), to: server)
            case .refused(let refusal):
                // A Redis that was emptied no longer has the script.
                server.viewers.script = nil
                if !refusal.text.hasPrefix("NOSCRIPT") { logUncounted(server, refusal) }
            case .reply, .lost: server.viewers.script = nil
            }
        }
    }

    private func logUncounted(_ server: FeedServer, _ refusal: RedisRefusal) {
        guard !server.isViewersRefusalLogged else { return }
        server.isViewersRefusalLogged = true
        logger.warning(
            "Redis refuses to count viewers; VIEWERS messages may be missing",
            metadata: ["redis": "\(server.label)", "reason": "\(refusal)"])
    }

    // MARK: To the watchers

    /// Tells an auction's watchers the number of viewers, when it has changed by 5 % and the last
    /// announcement is not recent.
    private func announce(_ count: Int, on channel: FeedChannel) {
        guard countsViewers, channel.machine.isWatched, now >= channel.nextAnnouncementAt,
            Self.isWorthAnnouncing(count, after: channel.announcedViewers)
        else { return }
        channel.announcedViewers = count
        channel.nextAnnouncementAt = now + Int64(shared.configuration.viewersSeconds) * 1_000
        counters.viewersAnnounced.add()
        announce(
            EventEncoder.viewers(
                count, auctionID: channel.topic.id,
                serverTime: Timestamp(milliseconds: Clock.wallMilliseconds())), on: channel)
    }

    /// True for the first number, and for one that differs by at least 5 % from the last announced.
    static func isWorthAnnouncing(_ count: Int, after announced: Int?) -> Bool {
        guard let announced else { return true }
        return count != announced && abs(count - announced) * 20 >= announced
    }
}
