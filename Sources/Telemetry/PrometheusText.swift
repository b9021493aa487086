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
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        for sample in samples {
            let labels = sample.labels.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",")
            text += labels.isEmpty ? "\(name) \(sample.value)\n" : "\(name){\(labels)} \(sample.value)\n"
        }
    }

    package mutating func metric(_ name: String, _ kind: Kind, _ help: String, _ value: Int) {
        metric(name, kind, help, [(labels: [], value: value)])
    }

    /// A metric of one number that may have a fraction.
    package mutating func metric(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n\(name) \(value)\n"
    }

    package mutating func metric(_ name: String, _ help: String, _ histogram: Histogram) {
        let snapshot = histogram.snapshot
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(Kind.histogram.rawValue)\n"
        var total = 0
        for (bound, count) in zip(histogram.bounds, snapshot.counts) {
            total += count
            text += "\(name)_bucket{le=\"\(bound)\"} \(total)\n"
        }
        total += snapshot.counts[histogram.bounds.count]
        text += "\(name)_bucket{le=\"+Inf\"} \(total)\n\(name)_sum \(snapshot.sum)\n\(name)_count \(total)\n"
    }
}
