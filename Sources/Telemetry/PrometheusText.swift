// The Prometheus text exposition format, version 0.0.4.

/// Builds the body of `/metrics`.
package struct PrometheusText {
    package enum Kind: String {
        case counter, gauge, histogram
    }

    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"
    package private(set) var text = ""

    package init() {}

    /// One metric with a sample for each set of labels. Label values must need no escaping.
    package mutating func metric(
        _ name: String, _ kind: Kind, _ help: String, _ samples: [(labels: [(String, String)], value: Int)]
    ) {
        begin(name, kind, help)
        for sample in samples { add(name, sample.labels, "\(sample.value)") }
    }

    package mutating func metric(_ name: String, _ kind: Kind, _ help: String, _ value: Int) {
        metric(name, kind, help, [(labels: [], value: value)])
    }

    /// A metric of one number that may have a fraction.
    package mutating func metric(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        begin(name, kind, help)
        add(name, [], "\(value)")
    }

    /// One metric with a fraction for each set of labels.
    package mutating func metric(
        _ name: String, _ kind: Kind, _ help: String,
        _ samples: [(labels: [(String, String)], value: Double)]
    ) {
        begin(name, kind, help)
        for sample in samples { add(name, sample.labels, "\(sample.value)") }
    }

    /// Histograms of one metric, for each set of labels.
    package mutating func histograms(
        _ name: String, _ help: String,
        _ samples: [(labels: [(String, String)], snapshot: HistogramSnapshot)]
    ) {
        begin(name, .histogram, help)
        for (labels, snapshot) in samples {
            var total = 0
            for (bound, count) in zip(snapshot.bounds, snapshot.counts) {
                total += count
                add("\(name)_bucket", labels + [("le", "\(bound)")], "\(total)")
            }
            total += snapshot.counts[snapshot.bounds.count]
            add("\(name)_bucket", labels + [("le", "+Inf")], "\(total)")
            add("\(name)_sum", labels, "\(snapshot.sum)")
            add("\(name)_count", labels, "\(total)")
        }
    }

    private mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    private mutating func add(_ name: String, _ labels: [(String, String)], _ value: String) {
        let list = labels.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",")
        text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
    }
}
