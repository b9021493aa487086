// How often values fall into fixed ranges: Prometheus' classic histogram. For the services' edges; a lock per
// value.

import Synchronization

/// Any thread may add.
package final class Histogram: Sendable {
    package struct Snapshot: Sendable {
        /// Values in each range, and at last those above all bounds.
        package var counts: [Int]
        package var sum: Double
    }

    /// Upper bounds, each included in its range; rising.
    package let bounds: [Double]
    private let state: Mutex<Snapshot>

    package init(bounds: [Double]) {
        self.bounds = bounds
        state = Mutex(Snapshot(counts: [Int](repeating: 0, count: bounds.count + 1), sum: 0))
    }

    package func add(_ value: Double) {
        let index = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock { state in
            state.counts[index] += 1
            state.sum += value
        }
    }

    package var snapshot: Snapshot { state.withLock { $0 } }
}
