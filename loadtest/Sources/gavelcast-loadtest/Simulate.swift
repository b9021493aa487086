// The command `simulate`: its settings, and its table.

import Foundation
import LoadRun
import Settings

enum Simulate {
    static let settings: [Setting] = [
        Setting("watchers", .number(1...100_000_000), default: "10000000", "watchers of one auction"),
        Setting("gateways", .number(1...10_000), default: "200", "gateways that share them evenly"),
        Setting("loops", .number(1...64), default: "4", "event loops of a gateway, each with a core"),
        Setting("bids-per-second", .number(1...10_000), default: "20", "bids, at even intervals"),
        Setting("conflate-ms", .number(0...10_000), default: "0", "the gateways' setting"),
        Setting("seconds", .number(8...3_600), default: "120", "until the auction's end"),
        Setting("event-bytes", .number(1...65_536), default: "400", "an event on the wire, with headers"),
        Setting("delivery-ns", .number(1...1_000_000), default: "7000", "processor time of a delivery"),
        Setting(
            "connect-us", .number(1...1_000_000), default: "50",
            "processor time of a connection with its handshake and first message"),
        Setting(
            "drains", .number(0...10_000), default: "0",
            "gateways replaced one after the other without a hand-over, from a quarter of the time on"),
        Setting("drain-seconds", .number(1...600), default: "30", "the gateways' setting"),
        Setting(
            "kills", .number(0...10_000), default: "0", "gateways that die together at half the time"),
        Setting(
            "back-off-ms", .number(1...60_000), default: "500",
            "clients return within this time after their gateway died"),
    ]

    static func plan(_ values: SettingsValues) -> SimulationPlan {
        var plan = SimulationPlan()
        plan.watchers = values.number("watchers")
        plan.gateways = values.number("gateways")
        plan.loops = values.number("loops")
        plan.bidsPerSecond = Double(values.number("bids-per-second"))
        plan.conflateMilliseconds = values.number("conflate-ms")
        plan.seconds = values.number("seconds")
        plan.eventBytes = values.number("event-bytes")
        plan.deliveryMicroseconds = Double(values.number("delivery-ns")) / 1_000
        plan.connectMicroseconds = Double(values.number("connect-us"))
        plan.drains = values.number("drains")
        plan.drainSeconds = values.number("drain-seconds")
        plan.kills = values.number("kills")
        plan.backOffMilliseconds = values.number("back-off-ms")
        return plan
    }

    static func run(_ plan: SimulationPlan) {
        let report = Simulation.run(plan)
        func line(_ name: String, _ value: String) {
            print(name + String(repeating: " ", count: max(1, 44 - name.count)) + value)
        }
        func text(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
        line("cores, all gateways", "\(plan.gateways * plan.loops)")
        line("most watchers on a gateway", text(report.mostWatchersOnGateway, 0))
        line("busiest gateway's processor time", text(report.busyShare * 100) + " %")
        line("bids", "\(report.bids), of which merged \(text(report.mergedShare * 100)) %")
        line(
            "from a bid to a watcher's socket",
            "p50 \(report.latency.percentile(50)) ms, p99 \(report.latency.percentile(99)) ms, "
                + "last \(report.latency.percentile(100)) ms")
        line("from the auction's end to the last watcher", text(report.endMilliseconds, 0) + " ms")
        line("most bits in a second, all gateways", text(report.peakBitsPerSecond / 1e9, 2) + " Gbit")
        if plan.drains + plan.kills > 0 {
            line("most connections in a second, all gateways", text(report.peakConnectsPerSecond, 0))
            line("connections that found a full queue", text(report.retriedConnects, 0))
        }
        if plan.kills > 0 {
            line("until all are back", report.returnSeconds.map { text($0, 2) + " s" } ?? "never")
        }
    }
}
