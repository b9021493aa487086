// The bounds of the fan-out's rules.

package enum FanoutLimits {
    /// How long a bid waits for its walk before it may merge. The loop is then late, and the newest price
    /// comes first.
    package static let lateMilliseconds: Int64 = 50
    /// At most so many events are kept for a crowd that is being greeted. Beyond that, the rest of the crowd
    /// waits for a newer state.
    package static let greetingEvents = 512
    /// At most so many events are held behind a gap.
    package static let heldEvents = 2_048
    /// How long a gap may stay before the feed jumps over it, and how long between two reads of the log
    /// meanwhile.
    package static let gapMilliseconds: Int64 = 1_000
    package static let gapRetryMilliseconds: Int64 = 200
    /// How long a joiner waits for the relay to rewrite a state that Redis lost. After that the older state
    /// is served.
    package static let stateWaitMilliseconds: Int64 = 3_000
    /// How long a log that was read for one resume also serves others.
    package static let widenedMilliseconds: Int64 = 10_000
    /// The compression window, in bits, of messages that many clients share.
    package static let sharedDeflateBits = 12
}
