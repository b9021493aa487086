// The bounds of the live protocol.

package enum LiveLimits {
    /// Auctions on one event stream of `/v1/live`.
    package static let auctionsPerStream = 20
    /// Seconds that a long-poll waits: unless it says otherwise, and what it may say.
    package static let pollSeconds = 25
    package static let pollSecondsRange = 1...60
    /// Messages below this gain nothing by compression.
    package static let leastDeflatedBytes = 96
    /// The largest state object taken from Redis.
    package static let stateBytes = 49_152
}
