// The bounds of the live protocol.

package enum LiveLimits {
    /// Auctions on one event stream of `/v1/live`.
    package static let auctionsPerStream = 20
    /// How many seconds a long-poll waits by default, and the range that a client may ask for.
    package static let pollSeconds = 25
    package static let pollSecondsRange = 1...60
    /// Messages below this gain nothing by compression.
    package static let leastDeflatedBytes = 96
    /// The largest state object taken from Redis.
    package static let stateBytes = 49_152
}
