// Counts of the kinds of one thing, with a single writer.

/// A closed set of kinds, each with a label.
package protocol TallyKind: CaseIterable, Sendable where AllCases == [Self] {
    /// The kind's place among ``CaseIterable/allCases``.
    var index: Int { get }
    /// The value of the metric's label.
    var label: String { get }
}

/// Only the owning thread may add. Any thread may read.
package final class Tally<Kind: TallyKind>: Sendable {
    private final class Cell: Sendable {
        let count = Counter()
    }

    private let cells = Kind.allCases.map { _ in Cell() }

    package init() {}

    package func add(_ kind: Kind, _ amount: Int = 1) {
        cells[kind.index].count.add(amount)
    }

    package func current(_ kind: Kind) -> Int { cells[kind.index].count.current }
}
