// The records of the connections of one loop, in one block of memory, addressed by slot and generation. A
// connection that watches one auction is one record; one that watches many has a further record for each
// subscription, which names the connection's. One loop owns a slab; nothing here is shared.

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
    /// - Parameter phase: ``ConnectionPhase/securing`` or ``ConnectionPhase/readingHead``.
    package mutating func insert(descriptor: Int32, phase: ConnectionPhase = .readingHead) -> UInt32? {
        insert(ConnectionRecord(descriptor: descriptor, phase: phase))
    }

    /// Takes a free slot for a subscription over the connection in `owner`; `nil` when all are in use.
    package mutating func insert(subscriptionOf owner: UInt32) -> UInt32? {
        insert(
            ConnectionRecord(
                descriptor: records[Int(owner)].descriptor, owner: owner, phase: .joining,
                transport: .subscription))
    }

    private mutating func insert(_ record: ConnectionRecord) -> UInt32? {
        precondition(ConnectionPhase.free.mayBecome(record.phase), "a slot cannot begin as \(record.phase)")
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

    /// Moves `slot` to another phase. Traps on a move that ``ConnectionPhase/successors`` does not name.
    package mutating func transition(_ slot: UInt32, to next: ConnectionPhase) {
        let present = self[slot].phase
        precondition(present.mayBecome(next), "slot \(slot): \(present) cannot become \(next)")
        records[Int(slot)].phase = next
    }

    /// True while `slot` still holds the connection that had `generation`.
    package func isCurrent(_ slot: UInt32, generation: UInt32) -> Bool {
        Int(slot) < highWater && records[Int(slot)].generation == generation
            && records[Int(slot)].phase != .free
    }

    /// True while `slot` is in use by a connection and not by a subscription.
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
