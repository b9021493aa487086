// A connection as the delivery walk and the timers see it: 40 bytes in the loop's slab. Everything rare
// (partial input, backlog, TLS session) lies in side tables keyed by slot.

/// How the gateway talks to a record's watcher.
package enum Transport: UInt8, Sendable {
    /// Requests and answers; no watcher yet.
    case http
    case webSocket
    /// Server-sent events.
    case eventStream
    case longPoll
    /// One of the auctions watched over a connection that has a record of its own.
    case subscription
}

/// Marks on a connection.
package struct ConnectionFlags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Output is waiting in the backlog table; new output must queue behind it.
    package static let hasBacklog = ConnectionFlags(rawValue: 1)
    /// Part of a head, frame or message is kept in the input table.
    package static let hasInput = ConnectionFlags(rawValue: 2)
    /// A ping was sent and nothing has been received since.
    package static let awaitsPong = ConnectionFlags(rawValue: 4)
    /// The connection came through the admin listener.
    package static let isAdmin = ConnectionFlags(rawValue: 8)
    /// The connection is over the limit and is answered with "over capacity".
    package static let isRefused = ConnectionFlags(rawValue: 16)
    /// Close the descriptor as soon as the backlog is written.
    package static let closesAfterFlush = ConnectionFlags(rawValue: 32)
    /// A waiting watcher gave a cursor, which stands in its record.
    package static let hasCursor = ConnectionFlags(rawValue: 128)
    /// The peer broke the protocol. Its further input is discarded.
    package static let discardsInput = ConnectionFlags(rawValue: 256)
    /// The connection is kept after the answer to its request.
    package static let keepsAlive = ConnectionFlags(rawValue: 64)
    /// The auction is over and the watcher's departure is set.
    package static let isDeparting = ConnectionFlags(rawValue: 512)
    /// The connection speaks TLS: its bytes go through the loop's table of sessions.
    package static let isSecure = ConnectionFlags(rawValue: 2_048)
    /// The connection's address has too many connections, so every request on it is refused.
    package static let isOverAddressLimit = ConnectionFlags(rawValue: 4_096)
    /// The client's token expires at a time that is set.
    package static let expires = ConnectionFlags(rawValue: 8_192)
    /// More was received than one turn may interpret. Nothing is read until the rest had its turn.
    package static let isDeferred = ConnectionFlags(rawValue: 16_384)
    /// A request was answered, and nothing of the next one has arrived.
    package static let isIdle = ConnectionFlags(rawValue: 32_768)
    /// Nothing is read from the connection until it has taken more of its answers.
    package static let isPaused = ConnectionFlags(rawValue: 1_024)
    /// The connection or subscription is on the list of endings and ends after this step. It is sent nothing
    /// more, and its input is ignored.
    package static let isEnding = ConnectionFlags(rawValue: 65_536)
    /// The head of a live request's answer is not out, so the answer may still become another one.
    package static let isAnswerOpen = ConnectionFlags(rawValue: 131_072)
    /// So much waits for a client with many auctions that its further messages must wait too.
    package static let isCongested = ConnectionFlags(rawValue: 262_144)
    /// A waiting watcher that another process served until now. It goes on from its cursor without a first
    /// message.
    package static let isMoved = ConnectionFlags(rawValue: 524_288)
    /// The connection has come from another process, which may still hold its descriptor too.
    package static let cameByHandover = ConnectionFlags(rawValue: 2_097_152)
    /// True for a moved watcher that was told, by the process it came from, that its Redis does not deliver.
    package static let knowsSilence = ConnectionFlags(rawValue: 1_048_576)
}

/// One connection. 40 bytes; two share little more than a cache line.
package struct ConnectionRecord {
    /// The socket; −1 in a free slot.
    package var descriptor: Int32 = -1
    /// Counts the slot's uses, so that a stale event or message for an earlier connection is recognised.
    package var generation: UInt32 = 0
    /// The sequence number of the last event delivered (or queued) to this watcher, or seen before it came.
    package var cursor: UInt64 = 0
    /// The loop's channel this watcher is on; ``ConnectionSlab/none`` otherwise.
    package var channel: UInt32 = ConnectionSlab.none
    /// The watcher's place in the channel's subscriber list.
    package var listPosition: UInt32 = ConnectionSlab.none
    /// When the peer last took bytes from a backlog, in timer ticks; for the slow-watcher deadline.
    package var lastProgressTick: UInt32 = 0
    /// A subscription's connection; ``ConnectionSlab/none`` in a connection's own record. In a free slot the
    /// next free one.
    package var owner: UInt32 = ConnectionSlab.none
    /// Written by ``ConnectionSlab/transition(_:to:)`` only.
    package internal(set) var phase: ConnectionPhase = .free
    package var transport: Transport = .http
    /// The window, in bits, that messages to this client may be compressed with; 0 when they may not.
    package var deflateBits: UInt8 = 0
    /// Seconds between heartbeats that the client asked for; 0 when it did not.
    package var heartbeatSeconds: UInt8 = 0
    package var flags: ConnectionFlags = []
}

extension ConnectionRecord {
    /// Notes whether the connection is kept after the answer to its request.
    package mutating func setKeepsAlive(_ keepsAlive: Bool) {
        if keepsAlive { flags.insert(.keepsAlive) } else { flags.remove(.keepsAlive) }
    }
}
