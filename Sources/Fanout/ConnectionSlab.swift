// The connections of one loop: fixed-size records in one block of memory, addressed by slot and generation. A
// record holds what the delivery walk and the timers touch; everything rare (partial input, backlog) lies in
// side tables keyed by slot. A connection that watches one auction is one record; one that watches many has a
// further record for each subscription, which names the connection's. One loop owns a slab; nothing here is
// shared.

/// How a record's watcher is spoken to.
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

/// What a connection is doing. Each phase names the ones that may follow.
package enum ConnectionPhase: UInt8, Sendable {
    /// The slot is unused. Can transition to: securing, readingHead.
    case free
    /// The TLS handshake is under way. Can transition to: readingHead, free.
    case securing
    /// Waiting for (the rest of) a request head. Can transition to: readingBody, awaitingSnapshot, bundling,
    /// echoing, lingering, free.
    case readingHead
    /// A request's body is being read (echo path). Can transition to: readingHead, lingering, free.
    case readingBody
    /// A watcher that has not had its first message. Can transition to: watching, readingHead (an answered
    /// long-poll), closing, lingering, free.
    case awaitingSnapshot
    /// A watcher that receives events. Can transition to: readingHead (an answered long-poll), closing,
    /// lingering, free.
    case watching
    /// A connection whose subscriptions are watchers. Can transition to: closing, lingering, free.
    case bundling
    /// A WebSocket that gets its messages back (conformance suites). Can transition to: closing, free.
    case echoing
    /// Our close frame is on its way; waiting for the peer's. Can transition to: lingering, free.
    case closing
    /// All is said and our side shut down; input is discarded until the peer closes. Can transition to: free.
    case lingering
}

/// Marks on a connection.
package struct ConnectionFlags: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

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
    /// The peer broke the protocol; what it still sends is forgotten.
    package static let discardsInput = ConnectionFlags(rawValue: 256)
    /// The connection is kept after the answer to its request.
    package static let keepsAlive = ConnectionFlags(rawValue: 64)
    /// The auction is over and the watcher's departure is set.
    package static let isDeparting = ConnectionFlags(rawValue: 512)
    /// The connection speaks TLS: its bytes go through the loop's table of sessions.
    package static let isSecure = ConnectionFlags(rawValue: 2_048)
    /// Its address has more connections than it may: what it asks for is refused.
    package static let isOverAddressLimit = ConnectionFlags(rawValue: 4_096)
    /// The client's token expires at a time that is set.
    package static let expires = ConnectionFlags(rawValue: 8_192)
    /// What was received is more than one turn may interpret; nothing is read until the rest had its turn.
    package static let isDeferred = ConnectionFlags(rawValue: 16_384)
    /// A request was answered and nothing of the next one is here.
    package static let isIdle = ConnectionFlags(rawValue: 32_768)
    /// Nothing is read from the connection until it has taken more of its answers.
    package static let isPaused = ConnectionFlags(rawValue: 1_024)
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
    package var phase: ConnectionPhase = .free
    package var transport: Transport = .http
    package var flags: ConnectionFlags = []
    /// The window, in bits, that messages to this client may be compressed with; 0 when they may not.
    package var deflateBits: UInt8 = 0
}

extension ConnectionRecord {
    /// Notes whether the connection is kept after the answer to its request.
    package mutating func setKeepsAlive(_ keepsAlive: Bool) {
        if keepsAlive { flags.insert(.keepsAlive) } else { flags.remove(.keepsAlive) }
    }
}

/// The records of one loop, allocated once for the loop's limit. Untouched slots cost no memory (the kernel
/// maps pages on first use).
package struct ConnectionSlab: ~Copyable {
    /// "No slot", "no channel", "not in a list".
    package static let none = UInt32.max

    package let capacity: Int
    /// In use now.
    package private(set) var count = 0
    // SAFETY: owned by this slab from init to deinit, `capacity` initialised records up to `highWater`; the
    // delivery walk borrows it for the length of one call on the owning loop's thread.
    package let records: UnsafeMutablePointer<ConnectionRecord>

    private var firstFree = ConnectionSlab.none
    /// Slots from here on were never used.
    package private(set) var highWater = 0

    package init(capacity: Int) {
        self.capacity = capacity
        records = .allocate(capacity: capacity)
    }

    deinit {
        records.deallocate()
    }

    /// Takes a free slot for a connection's `descriptor`; `nil` when all are in use.
    package mutating func insert(descriptor: Int32) -> UInt32? {
        insert(ConnectionRecord(descriptor: descriptor, phase: .readingHead))
    }

    /// Takes a free slot for a subscription over the connection in `owner`; `nil` when all are in use.
    package mutating func insert(subscriptionOf owner: UInt32) -> UInt32? {
        insert(
            ConnectionRecord(
                descriptor: records[Int(owner)].descriptor, owner: owner, phase: .awaitingSnapshot,
                transport: .subscription))
    }

    private mutating func insert(_ record: ConnectionRecord) -> UInt32? {
        let slot: UInt32
        var generation: UInt32 = 1
        if firstFree != Self.none {
            slot = firstFree
            firstFree = records[Int(slot)].owner
            generation = records[Int(slot)].generation
        } else {
            guard highWater < capacity else { return nil }
            slot = UInt32(highWater)
            highWater += 1
        }
        records.advanced(by: Int(slot)).initialize(to: record)
        records[Int(slot)].generation = generation
        count += 1
        return slot
    }

    /// Frees `slot`; its generation moves on, so that tokens made for it no longer match.
    package mutating func remove(_ slot: UInt32) {
        precondition(records[Int(slot)].phase != .free, "slot \(slot) freed twice")
        records[Int(slot)].phase = .free
        records[Int(slot)].descriptor = -1
        // 0 marks the loop's own descriptors, so it is skipped when the count wraps.
        records[Int(slot)].generation = max(1, records[Int(slot)].generation &+ 1)
        records[Int(slot)].owner = firstFree
        firstFree = slot
        count -= 1
    }

    /// Whether `slot` still holds the connection that had `generation`.
    package func isCurrent(_ slot: UInt32, generation: UInt32) -> Bool {
        Int(slot) < highWater && records[Int(slot)].generation == generation
            && records[Int(slot)].phase != .free
    }

    /// Whether `slot` is in use, and by a connection rather than a subscription.
    package func isConnection(_ slot: UInt32) -> Bool {
        records[Int(slot)].phase != .free && records[Int(slot)].owner == Self.none
    }

    package subscript(_ slot: UInt32) -> ConnectionRecord {
        get {
            precondition(Int(slot) < highWater)
            return records[Int(slot)]
        }
        _modify {
            precondition(Int(slot) < highWater)
            let record = records + Int(slot)
            yield &record.pointee
        }
    }
}
