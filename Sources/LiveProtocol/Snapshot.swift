// An auction's state at a sequence number, as read from Redis.

package struct Snapshot: Sendable {
    package let sequence: UInt64
    /// The state object without its `seq`; `nil` when nothing was published.
    package let state: [UInt8]?
    /// True when the state says that the auction is over.
    package let isEnded: Bool

    package init(sequence: UInt64, state: [UInt8]?, isEnded: Bool) {
        self.sequence = sequence
        self.state = state
        self.isEnded = isEnded
    }
}
