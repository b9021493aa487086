// How often something may happen: a token bucket. Pure: time is a parameter.

package struct RateBucket: Sendable {
    /// Thousandths of a token.
    private var level: Int64
    private var filledAt: Int64

    /// A full bucket.
    /// - Parameter now: milliseconds, as in every call.
    package init(burst: Int, now: Int64) {
        level = Int64(burst) * 1_000
        filledAt = now
    }

    /// Takes a token; false when there is none.
    /// - Parameters:
    ///   - rate: tokens that come in a second.
    ///   - burst: the most that gather.
    package mutating func take(rate: Int, burst: Int, now: Int64) -> Bool {
        guard hasToken(rate: rate, burst: burst, now: now) else { return false }
        level -= 1_000
        return true
    }

    /// Whether a token is there, which stays.
    package mutating func hasToken(rate: Int, burst: Int, now: Int64) -> Bool {
        let full = Int64(burst) * 1_000
        // A second's tokens are a thousand thousandths each: a millisecond's are `rate` of them.
        let elapsed = min(max(0, now - filledAt), full / Int64(max(1, rate)) + 1)
        level = min(full, level + elapsed * Int64(rate))
        filledAt = now
        return level >= 1_000
    }
}
