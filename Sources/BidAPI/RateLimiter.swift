// Token buckets by user: a burst up to the limit, then as many as the period gives back.

import Synchronization

final class RateLimiter: Sendable {
    private struct Bucket {
        var tokens: Double
        var updatedAt: Double
    }

    /// Full buckets are forgotten when the table grows beyond this.
    private static let maximumBuckets = 100_000

    private let buckets = Mutex<[String: Bucket]>([:])
    private let limit: Double
    private let perSecond: Double

    /// - Parameters:
    ///   - limit: actions in one period; 0 means no limit.
    ///   - periodSeconds: the period's length.
    init(limit: Int, periodSeconds: Int) {
        self.limit = Double(limit)
        perSecond = Double(limit) / Double(periodSeconds)
    }

    /// Takes one action of `user` at `now` (seconds); when there is none left, returns after how many seconds to come
    /// back.
    func take(_ user: String, now: Double) -> Int? {
        guard limit > 0 else { return nil }
        return buckets.withLock { buckets in
            var bucket = buckets[user] ?? Bucket(tokens: limit, updatedAt: now)
            bucket.tokens = min(limit, bucket.tokens + max(0, now - bucket.updatedAt) * perSecond)
            bucket.updatedAt = now
            defer { buckets[user] = bucket }
            guard bucket.tokens >= 1 else { return Int(((1 - bucket.tokens) / perSecond).rounded(.up)) }
            bucket.tokens -= 1
            if buckets.count > Self.maximumBuckets {
                buckets = buckets.filter { $1.tokens + (now - $1.updatedAt) * perSecond < limit }
            }
            return nil
        }
    }

    /// Gives an action back that did not take place.
    func giveBack(_ user: String) {
        buckets.withLock { buckets in
            guard var bucket = buckets[user] else { return }
            bucket.tokens = min(limit, bucket.tokens + 1)
            buckets[user] = bucket
        }
    }
}
