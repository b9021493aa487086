// The Prometheus text exposition format, version 0.0.4.

/// Builds the body of `/metrics`.
package struct PrometheusText {
    package enum Kind: String {
        case counter, gauge
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
}
