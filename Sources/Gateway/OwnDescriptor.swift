// The tokens by which the poller reports a loop's own descriptors: generation 0, which no connection has, and
// one of these as slot.

enum OwnDescriptor {
    static let mailbox: UInt64 = 1
    static let listener: UInt64 = 2
    static let adminListener: UInt64 = 3
    static let feedMailbox: UInt64 = 4
    static let secureListener: UInt64 = 5
    /// The first token of the Redis links. Each link has two.
    static let firstLink: UInt64 = 16
}
