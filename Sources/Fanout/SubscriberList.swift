// The watchers of one channel on one loop: a contiguous list of slots that the delivery walk runs over. A
// walk may yield in the middle and go on in a later turn. A watcher that leaves meanwhile becomes a
// tombstone, so that no other watcher moves past the walk unseen. When no walk is under way, the last watcher
// fills a leaver's place.

package struct SubscriberList {
    /// Marks a place whose watcher left during a walk.
    package static let tombstone = UInt32.max

    package private(set) var slots: ContiguousArray<UInt32> = []
    /// Walks under way; places do not move while it is not zero.
    private var walks = 0
    private var tombstones = 0

    package init() {}

    /// Watchers in the list.
    package var count: Int { slots.count - tombstones }

    /// Adds `slot` at the end and returns its position.
    package mutating func append(_ slot: UInt32) -> UInt32 {
        slots.append(slot)
        return UInt32(slots.count - 1)
    }

    /// Removes the watcher at `position`. If another watcher took its place, returns that watcher's slot. The
    /// caller must note the new position.
    package mutating func remove(at position: UInt32) -> UInt32? {
        let index = Int(position)
        precondition(slots[index] != Self.tombstone, "position \(position) removed twice")
        if walks > 0 {
            slots[index] = Self.tombstone
            tombstones += 1
            return nil
        }
        let last = slots.removeLast()
        guard index < slots.count else { return nil }
        slots[index] = last
        return last
    }

    /// Empties the list and returns its slots. Must not be called while a walk is under way.
    package mutating func removeAll() -> ContiguousArray<UInt32> {
        precondition(walks == 0)
        defer { slots = [] }
        return slots
    }

    package mutating func beginWalk() {
        walks += 1
    }

    /// Ends one walk. After the last, tombstones are closed up; `moved(slot, position)` is called for each
    /// watcher whose position changed.
    package mutating func endWalk(moved: (UInt32, UInt32) -> Void) {
        walks -= 1
        guard walks == 0, tombstones > 0 else { return }
        var kept = 0
        for index in slots.indices where slots[index] != Self.tombstone {
            if kept != index {
                slots[kept] = slots[index]
                moved(slots[kept], UInt32(kept))
            }
            kept += 1
        }
        slots.removeSubrange(kept...)
        tombstones = 0
    }
}
