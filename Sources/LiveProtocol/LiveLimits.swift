// The bounds of the live protocol.

package enum LiveLimits {
    /// Auctions of one event stream or long-poll of `/v1/live`.
    package static let auctionsPerRequest = 50
    /// How many seconds a long-poll waits by default, and the range that a client may ask for.
    package static let pollSeconds = 25
    package static let pollSecondsRange = 1...60
    /// Seconds between heartbeats that a client may ask for.
    package static let heartbeatSecondsRange = 5...60
    /// Messages below this gain nothing by compression.
    package static let leastDeflatedBytes = 96
    /// The largest state object taken from Redis.
    package static let stateBytes = 49_152
}
