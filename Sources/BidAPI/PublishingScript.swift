// The script with which the relay writes one auction's consecutive events to Redis. In one atomic step it
// appends to the log, sets the state and publishes. It accepts only the next sequence number.

import AuctionEvents
import AuctionStore
import RedisLink

enum PublishingScript {
    /// KEYS: log, state. ARGV: channel, state or "", first sequence number, mode, first to publish, seconds
    /// to live or 0, the publishing command, then the events. Returns the sequence number Redis holds
    /// afterwards, and how many events were new to it. If the log lacks events before `first`, mode "refill"
    /// starts it anew, and mode "next" does nothing.
    private static let source = """
        local log, state = KEYS[1], KEYS[2]
        local channel, newState, first, mode = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
        local publishFrom, ttl, publish = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
        local offset, count = 7, #ARGV - 7
        local held = 0
        local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
        if newest[1] then held = tonumber(string.match(newest[1][1], '^%d+')) end
        local old = redis.call('GET', state)
        if old then
            local seq = tonumber(string.match(old, '^{"seq":(%d+)'))
            if not seq then
                local ok, decoded = pcall(cjson.decode, old)
                seq = ok and type(decoded) == 'table' and tonumber(decoded.seq) or 0
            end
            if seq > held then held = seq end
        end
        local skip = held - first + 1
        if skip > count then return {held, 0} end
        if skip < 0 then
            if mode ~= 'refill' then return {held, 0} end
            redis.call('DEL', log)
            skip = 0
        end
        for i = skip + 1, count do
            redis.call('XADD', log, 'MAXLEN', '~', \(Outbox.kept), string.format('%.0f-0', first + i - 1), 'e', ARGV[offset + i])
            held = first + i - 1
        end
        if count == 0 then held = first - 1 end
        if newState ~= '' then redis.call('SET', state, newState) end
        if ttl > 0 then
            redis.call('EXPIRE', log, ttl)
            redis.call('EXPIRE', state, ttl)
        end
        for i = skip + 1, count do
            if first + i - 1 >= publishFrom then redis.call(publish, channel, ARGV[offset + i]) end
        end
        return {held, math.max(0, count - skip)}
        """

    enum Mode: String {
        case next, refill
    }

    /// - Parameter publish: PUBLISH, or SPUBLISH in a cluster.
    static func command(
        _ publication: Publication, mode: Mode, publishFrom: UInt64, publish: String
    ) -> [[UInt8]] {
        let arguments = [
            "EVAL", source, "2", RedisKeys.log(publication.auctionID), RedisKeys.state(publication.auctionID),
            RedisKeys.channel(publication.auctionID), publication.state ?? "", "\(publication.first)",
            mode.rawValue,
            "\(publishFrom)", "\(publication.secondsToKeep ?? 0)", publish,
        ]
        return (arguments + publication.events).map { Array($0.utf8) }
    }

    /// What the script returned.
    struct Outcome {
        /// The last sequence number that Redis holds.
        let held: SequenceNumber
        /// Events that it did not hold before.
        let added: Int

        /// `nil` for an error.
        init?(_ reply: RedisReply) {
            guard let parts = reply.array, parts.count == 2, let held = parts[0].integer,
                let added = parts[1].integer
            else { return nil }
            self.held = SequenceNumber(max(0, held))
            self.added = Int(added)
        }
    }
}
