// Limits how often one user may do something. Redis keeps the count for all bid APIs: a burst up to the
// limit, then as many as the period restores. If Redis does not answer, the action is let through and
// counted.

import RedisLink

struct RateLimiter: Sendable {
    /// The generic cell rate algorithm: one key holds the time, in microseconds, at which the bucket is full
    /// again.
    /// KEYS: the bucket. ARGV: limit, period in seconds, how many to take (-1 gives one back). Returns 0, or
    /// after how many seconds to come again.
    private static let script = """
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local period = ARGV[2] * 1000000
        local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[3] * period / ARGV[1]
        if full > now + period + 1 then return math.ceil((full - now - period) / 1000000) end
        if full <= now then
            redis.call('DEL', KEYS[1])
        else
            redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
        end
        return 0
        """

    /// The name of the limited action, as it appears in the Redis key.
    let name: String
    let periodSeconds: Int
    let redis: RedisQueries
    /// Counts actions that were let through because Redis did not answer.
    let uncounted: BidAPICounters.Count

    /// Takes one action from `user`'s limit. When none is left, returns how many seconds to wait.
    /// - Parameter limit: actions in one period; 0 means no limit.
    func take(_ user: String, limit: Int) async -> Int? {
        guard limit > 0 else { return nil }
        guard let wait = await change(user, limit, by: 1) else {
            uncounted.add()
            return nil
        }
        return wait > 0 ? wait : nil
    }

    /// Returns an action that did not take place to the user's limit.
    func giveBack(_ user: String, limit: Int) async {
        guard limit > 0 else { return }
        _ = await change(user, limit, by: -1)
    }

    private func change(_ user: String, _ limit: Int, by number: Int) async -> Int? {
        let command = [
            "EVAL", Self.script, "1", RedisKeys.limit(name, user), "\(limit)", "\(periodSeconds)",
            "\(number)",
        ]
        return await redis.ask(.user(user), [command])?[0].integer.map { Int($0) }
    }
}
