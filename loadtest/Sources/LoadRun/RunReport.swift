// What a run found: figures by step, goals, a line of measurements a second, and the audit.

import Foundation
import LoadEngine

package struct Figure: Codable, Sendable {
    /// `step/what`.
    package let name: String
    package let value: Double
    package let unit: String
    package var goal: String?
    package var isMet: Bool?
}

/// One second of a run.
package struct Sample: Codable, Sendable {
    package var seconds = 0.0
    package var connected = 0
    package var deliveriesPerSecond = 0.0
    package var p50Milliseconds = 0.0
    package var p99Milliseconds = 0.0
    package var gatewayMegabytes = 0.0
    /// Processors' worth.
    package var gatewayProcessors = 0.0
    package var testerProcessors = 0.0
}

package struct DistributionPoint: Codable, Sendable {
    package let percentile: Double
    package let milliseconds: Double
}

/// One event and the time its last watcher had it.
package struct BroadcastPoint: Codable, Sendable {
    package let group: String
    package let seconds: Double
    package let lastWatcherMilliseconds: Double
}

package struct AuditReport: Codable, Sendable {
    package var watches = 0
    package var events = 0
    package var applied = 0
    package var merged = 0
    package var declaredJumps = 0
    package var faults: [String: Int] = [:]
    /// The first of them, each naming its watcher.
    package var findings: [String] = []

    package init() {}

    package var isClean: Bool { faults.isEmpty }

    /// In words.
    package var text: String {
        let verdict =
            isClean
            ? "audit: nothing lost, nothing twice, no undeclared jump"
            : "AUDIT FAILED: " + faults.map { "\($0.value) × \($0.key)" }.joined(separator: "; ")
        let counts =
            "\(watches) watches of \(events) events: \(applied) applied, \(merged) merged as declared, "
            + "\(declaredJumps) jumps declared"
        return ([verdict, counts] + findings).joined(separator: "\n")
    }
}

package struct RunReport: Codable, Sendable {
    package var scenario = ""
    package var summary = ""
    package var startedAt = ""
    package var machine = ""
    package var figures: [Figure] = []
    package var samples: [Sample] = []
    package var latency: [String: [DistributionPoint]] = [:]
    package var broadcasts: [BroadcastPoint] = []
    package var audit = AuditReport()
    /// What a reader must know to trust the figures.
    package var remarks: [String] = []

    package init() {}

    package mutating func add(_ name: String, _ value: Double, _ unit: String) {
        figures.append(Figure(name: name, value: value, unit: unit))
    }

    package func value(_ name: String) -> Double? {
        figures.first { $0.name == name }?.value
    }

    mutating func judge(_ goals: [Scenario.Goal]) {
        for goal in goals {
            guard let index = figures.firstIndex(where: { $0.name == goal.figure }) else {
                remarks.append("the goal for \(goal.figure) has no figure")
                continue
            }
            let value = figures[index].value
            figures[index].goal =
                goal.atMost.map { "≤ \(Self.short($0))" } ?? goal.atLeast.map { "≥ \(Self.short($0))" }
            figures[index].isMet = value <= goal.atMost ?? .infinity && value >= goal.atLeast ?? -.infinity
        }
    }

    /// The figures as a table for a terminal.
    package var table: String {
        let rows = figures.map { figure in
            [
                figure.name, Self.short(figure.value) + (figure.unit.isEmpty ? "" : " " + figure.unit),
                figure.goal ?? "", figure.isMet.map { $0 ? "met" : "missed" } ?? "",
            ]
        }
        let all = [["figure", "result", "goal", ""]] + rows
        let widths = (0..<4).map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(
                separator: "  ")
        }.joined(separator: "\n")
    }

    static func short(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e15 { return "\(Int(value))" }
        let decimals = abs(value) >= 100 ? 0 : abs(value) >= 10 ? 1 : abs(value) >= 1 ? 2 : 3
        return String(format: "%.\(decimals)f", value)
    }

    /// Writes `NAME.json` and `NAME.html` into a folder.
    package func write(to folder: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let json = try encoder.encode(self)
        try json.write(to: URL(fileURLWithPath: "\(folder)/\(scenario).json"))
        encoder.outputFormatting = [.sortedKeys]
        // Nothing in the data may end the page's script element.
        let data = String(decoding: try encoder.encode(self), as: UTF8.self).replacing("</", with: "<\\/")
        let page = String(decoding: PackageResources.report_html, as: UTF8.self).replacing(
            "/*DATA*/", with: data)
        try Data(page.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(scenario).html"))
    }
}
