// Numbers that one thread writes and any thread reads.

import Synchronization

/// A number with a single writer. A change costs a plain load and store; no locked instruction.
package struct Counter: ~Copyable, Sendable {
    private let value = Atomic<Int>(0)

    package init() {}

    /// Only the owning thread may call this.
    package func add(_ amount: Int = 1) {
        // Relaxed: a scrape needs no order between counters, and nobody else writes.
        value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// Only the owning thread may call this.
    package func set(_ amount: Int) {
        value.store(amount, ordering: .relaxed)
    }

    package var current: Int { value.load(ordering: .relaxed) }
}
