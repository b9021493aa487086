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
    ///   - rate: how many tokens are added a second.
    ///   - burst: at most so many tokens gather.
    package mutating func take(rate: Int, burst: Int, now: Int64) -> Bool {
        guard hasToken(rate: rate, burst: burst, now: now) else { return false }
        level -= 1_000
        return true
    }

    /// True when a token is there. Does not take it.
    package mutating func hasToken(rate: Int, burst: Int, now: Int64) -> Bool {
        let full = Int64(burst) * 1_000
        // A token is a thousand thousandths, so `rate` tokens a second are `rate` thousandths a millisecond.
        let elapsed = min(max(0, now - filledAt), full / Int64(max(1, rate)) + 1)
        level = min(full, level + elapsed * Int64(rate))
        filledAt = now
        return level >= 1_000
    }
}
