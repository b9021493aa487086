// Counts how often durations fall into fixed ranges, for a single writer. Adding a value costs a short search
// and two plain additions.

/// Only the owning thread may add. Any thread may read.
package final class LocalHistogram: Sendable {
    /// Upper bounds in microseconds, from a tenth of a millisecond to half a minute.
    private static let bounds: [Int64] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_000_000, 5_000_000, 10_000_000, 30_000_000,
    ]

    private final class Cell: Sendable {
        let count = Counter()
    }

    private let cells = (0...bounds.count).map { _ in Cell() }
    private let microseconds = Counter()

    package init() {}

    /// A duration below zero, as clocks of two machines may show, counts as zero.
    package func add(microseconds duration: Int64) {
        var index = 0
        while index < Self.bounds.count, duration > Self.bounds[index] { index += 1 }
        cells[index].count.add()
        microseconds.add(Int(max(0, duration)))
    }

    package var snapshot: HistogramSnapshot {
        HistogramSnapshot(
            bounds: Self.bounds.map { Double($0) / 1e6 }, counts: cells.map { $0.count.current },
            sum: Double(microseconds.current) / 1e6)
    }
}
