// The text of `/metrics`: Prometheus' own format, version 0.0.4, or OpenMetrics 1.0, which has exemplars too.

/// Builds the body of `/metrics`.
package struct PrometheusText {
    package enum Kind: String {
        case counter, gauge, histogram
    }

    package enum Format: Sendable {
        case prometheus, openMetrics
    }

    private let format: Format
    private var lines = ""

    package init(_ format: Format = .prometheus) {
        self.format = format
    }

    package var contentType: String {
        switch format {
        case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
        case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
        }
    }

    package var text: String { format == .openMetrics ? lines + "# EOF\n" : lines }

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
            var lower = -Double.infinity
            for (bound, count) in zip(snapshot.bounds + [.infinity], snapshot.counts) {
                total += count
                let example = snapshot.exemplars.last { $0.value > lower && $0.value <= bound }
                add(
                    "\(name)_bucket", labels + [("le", bound == .infinity ? "+Inf" : "\(bound)")], "\(total)",
                    example)
                lower = bound
            }
            add("\(name)_sum", labels, "\(snapshot.sum)")
            add("\(name)_count", labels, "\(total)")
        }
    }

    private mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        // In OpenMetrics, a counter's family name lacks the `_total` suffix of its samples.
        let isShortened = format == .openMetrics && kind == .counter && name.hasSuffix("_total")
        let family = isShortened ? String(name.dropLast("_total".count)) : name
        lines += "# HELP \(family) \(help)\n# TYPE \(family) \(kind.rawValue)\n"
    }

    private mutating func add(
        _ name: String, _ labels: [(String, String)], _ value: String, _ exemplar: Exemplar? = nil
    ) {
        let list = labels.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",")
        lines += list.isEmpty ? "\(name) \(value)" : "\(name){\(list)} \(value)"
        if let exemplar, format == .openMetrics {
            lines += " # {trace_id=\"\(exemplar.traceID)\"} \(exemplar.value) \(exemplar.time)"
        }
        lines += "\n"
    }
}
