// One timer per connection slot, in a hashed wheel: setting, moving and cancelling cost the same however many
// there are (Varghese and Lauck, 1987, scheme 6). Time is counted in ticks that the owner defines.

package struct TimerWheel {
    private static let none = UInt32.max
    private static let bucketCount = 512

    private struct Link {
        var next = TimerWheel.none
        var previous = TimerWheel.none
        var deadline: UInt32 = 0
        var isSet = false
    }

    private var links: [Link] = []
    private var heads = [UInt32](repeating: TimerWheel.none, count: TimerWheel.bucketCount)
    /// The tick up to which timers have fired.
    private var current: UInt32
    /// Slots of the bucket under inspection, so that a firing timer may set others.
    private var due: [UInt32] = []

    package private(set) var count = 0

    package init(now: UInt32) {
        current = now
    }

    /// Sets the timer of `slot` to fire at `deadline` (at the next tick if that is past), replacing an
    /// earlier one.
    package mutating func schedule(_ slot: UInt32, at deadline: UInt32) {
        if Int(slot) >= links.count {
            links.append(contentsOf: repeatElement(Link(), count: Int(slot) + 1 - links.count))
        }
        cancel(slot)
        let deadline = max(deadline, current + 1)
        let bucket = Int(deadline) % Self.bucketCount
        let head = heads[bucket]
        links[Int(slot)] = Link(next: head, previous: Self.none, deadline: deadline, isSet: true)
        if head != Self.none { links[Int(head)].previous = slot }
        heads[bucket] = slot
        count += 1
    }

    /// When the timer of `slot` fires; `nil` when it is not set.
    package func deadline(of slot: UInt32) -> UInt32? {
        guard Int(slot) < links.count, links[Int(slot)].isSet else { return nil }
        return links[Int(slot)].deadline
    }

    package mutating func cancel(_ slot: UInt32) {
        guard Int(slot) < links.count, links[Int(slot)].isSet else { return }
        let link = links[Int(slot)]
        if link.previous != Self.none {
            links[Int(link.previous)].next = link.next
        } else {
            heads[Int(link.deadline) % Self.bucketCount] = link.next
        }
        if link.next != Self.none { links[Int(link.next)].previous = link.previous }
        links[Int(slot)].isSet = false
        count -= 1
    }

    /// True when timers may be due that ``popExpired(now:)`` has not handed out yet.
    package func mayHaveExpired(now: UInt32) -> Bool { !due.isEmpty || current < now }

    /// The next slot whose timer is due at or before `now`, its timer cleared; `nil` when there is none left.
    package mutating func popExpired(now: UInt32) -> UInt32? {
        while true {
            while let slot = due.popLast() {
                // A timer that fired before may have moved or cancelled this one.
                guard links[Int(slot)].isSet, links[Int(slot)].deadline <= current else { continue }
                cancel(slot)
                return slot
            }
            guard current < now else { return nil }
            current += 1
            var slot = heads[Int(current) % Self.bucketCount]
            while slot != Self.none {
                if links[Int(slot)].deadline <= current { due.append(slot) }
                slot = links[Int(slot)].next
            }
        }
    }
}
