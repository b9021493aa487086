// Counts how often values fall into fixed ranges: Prometheus' classic histogram. Each value takes a lock, so
// the event loops use `LocalHistogram` instead.

import Synchronization

/// Any thread may add.
package final class Histogram: Sendable {
    private let bounds: [Double]
    private let state: Mutex<HistogramSnapshot>

    /// - Parameter bounds: upper bounds, each included in its range; rising.
    package init(bounds: [Double]) {
        self.bounds = bounds
        let counts = [Int](repeating: 0, count: bounds.count + 1)
        state = Mutex(HistogramSnapshot(bounds: bounds, counts: counts, sum: 0))
    }

    package func add(_ value: Double) {
        let index = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock { state in
            state.counts[index] += 1
            state.sum += value
        }
    }

    package var snapshot: HistogramSnapshot { state.withLock { $0 } }
}
