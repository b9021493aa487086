// How long to wait before the next attempt to connect.

package struct Backoff: Sendable {
    /// The longest wait, in milliseconds. The link notices Redis' return within this time.
    package static let maximumMilliseconds: Int64 = 500
    private static let firstMilliseconds: Int64 = 20

    private var ceiling = Backoff.firstMilliseconds

    package init() {}

    /// The next wait in milliseconds: random between half the ceiling and the ceiling, which doubles each
    /// time.
    package mutating func next(using generator: inout some RandomNumberGenerator) -> Int64 {
        let wait = Int64.random(in: ceiling / 2...ceiling, using: &generator)
        ceiling = min(ceiling * 2, Self.maximumMilliseconds)
        return wait
    }

    package mutating func reset() {
        ceiling = Self.firstMilliseconds
    }
}
