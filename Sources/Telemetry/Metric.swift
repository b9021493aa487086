// A row of a program's table of metrics. `/metrics`, its help and docs/reference.md follow the table.

/// A histogram's counts at one moment.
package struct HistogramSnapshot: Sendable {
    /// Upper bounds, each included in its range; rising.
    package let bounds: [Double]
    /// Values in each range, and at last those above all bounds.
    package var counts: [Int]
    package var sum: Double
    /// Examples of values that were traced, the latest last.
    package var exemplars: [Exemplar] = []

    package init(bounds: [Double], counts: [Int], sum: Double) {
        self.bounds = bounds
        self.counts = counts
        self.sum = sum
    }

    /// The counts of two histograms with the same bounds together.
    package static func + (one: HistogramSnapshot, other: HistogramSnapshot) -> HistogramSnapshot {
        precondition(one.bounds == other.bounds, "histograms of different ranges")
        return HistogramSnapshot(
            bounds: one.bounds, counts: zip(one.counts, other.counts).map(+), sum: one.sum + other.sum)
    }
}

package struct Metric<Source>: Sendable {
    package enum Value: Sendable {
        case number(Int)
        case fraction(Double)
        /// By the value of one label.
        case numbers(label: String, [(value: String, number: Int)])
        case fractions(label: String, [(value: String, number: Double)])
        case histogram(HistogramSnapshot)
        /// By the values of several labels.
        case histograms([(labels: [(String, String)], snapshot: HistogramSnapshot)])
        /// There is none now.
        case missing
    }

    let kind: PrometheusText.Kind
    let name: String
    let help: String
    private let read: @Sendable (Source) -> Value

    package init(
        _ kind: PrometheusText.Kind, _ name: String, _ help: String,
        _ read: @escaping @Sendable (Source) -> Value
    ) {
        self.kind = kind
        self.name = name
        self.help = help
        self.read = read
    }

    package func write(of source: Source, to text: inout PrometheusText) {
        switch read(source) {
        case .number(let number): text.metric(name, kind, help, number)
        case .fraction(let number): text.metric(name, kind, help, number)
        case .numbers(let label, let samples):
            text.metric(name, kind, help, samples.map { (labels: [(label, $0.value)], value: $0.number) })
        case .fractions(let label, let samples):
            text.metric(name, kind, help, samples.map { (labels: [(label, $0.value)], value: $0.number) })
        case .histogram(let snapshot): text.histograms(name, help, [(labels: [], snapshot: snapshot)])
        case .histograms(let samples): text.histograms(name, help, samples)
        case .missing: break
        }
    }
}

extension Metric.Value {
    /// The counts of a tally, summed over `tallies`.
    package static func tally<Kind>(label: String, _ tallies: [Tally<Kind>]) -> Self {
        .numbers(
            label: label,
            Kind.allCases.map { kind in
                (value: kind.label, number: tallies.reduce(0) { $0 + $1.current(kind) })
            })
    }

    /// The histograms of several threads together.
    package static func sum(_ histograms: [LocalHistogram], exemplars: [Exemplar] = []) -> Self {
        guard let first = histograms.first else { return .missing }
        var snapshot = histograms.dropFirst().reduce(first.snapshot) { $0 + $1.snapshot }
        snapshot.exemplars = exemplars
        return .histogram(snapshot)
    }
}
