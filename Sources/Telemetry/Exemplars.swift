// Examples of a histogram's values with their traces, which lead from a slow bucket to what happened.

import Synchronization

/// One value, its trace, and when it was measured.
package struct Exemplar: Equatable, Sendable {
    package let value: Double
    package let traceID: String
    /// In seconds since 1970.
    package let time: Double

    package init(value: Double, traceID: String, time: Double) {
        self.value = value
        self.traceID = traceID
        self.time = time
    }
}

/// The latest examples. Any thread may add; few values are traced, so the lock is seldom taken.
package final class Exemplars: Sendable {
    /// At most this many are kept, for all ranges of the histogram together.
    private static let most = 64
    private let latest = Mutex<[Exemplar]>([])

    package init() {}

    package func add(_ exemplar: Exemplar) {
        latest.withLock { latest in
            if latest.count == Self.most { latest.removeFirst() }
            latest.append(exemplar)
        }
    }

    /// The latest last.
    package var all: [Exemplar] { latest.withLock { $0 } }
}
