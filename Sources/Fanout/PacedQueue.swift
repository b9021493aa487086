// Spreads the closes of a drain or a disconnect evenly over a time, one after another. Pure: time is a
// parameter.

package struct PacedQueue {
    private var tokens: [UInt64]
    private let total: Int
    private let startedAt: Int64
    private let milliseconds: Int64

    /// - Parameters:
    ///   - tokens: handed out from the last to the first.
    ///   - milliseconds: how long it takes to hand all of them out; 0 for at once.
    package init(_ tokens: [UInt64], startedAt: Int64, milliseconds: Int64) {
        self.tokens = tokens
        total = tokens.count
        self.startedAt = startedAt
        self.milliseconds = milliseconds
    }

    package var isEmpty: Bool { tokens.isEmpty }

    /// True while ``next(now:)`` has a token to hand out.
    package func isDue(now: Int64) -> Bool {
        guard !tokens.isEmpty else { return false }
        let elapsed = max(0, now - startedAt)
        guard elapsed < milliseconds else { return true }
        return tokens.count > total - Int(Int64(total) * elapsed / milliseconds)
    }

    /// The next token that is due by `now`; `nil` when none is.
    package mutating func next(now: Int64) -> UInt64? {
        isDue(now: now) ? tokens.popLast() : nil
    }
}
