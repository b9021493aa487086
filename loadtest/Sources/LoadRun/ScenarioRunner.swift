// Runs a scenario: starts its servers, takes its steps one after the other, looks once a second, audits at
// the end and stops everything. All of it on one thread; watchers and publishers have their own.

import Dispatch
import Foundation
import Histogram
import LoadEngine
import LocalServers
import Reactor
import RedisLink
import Synchronization

package final class ScenarioRunner {
    /// A group with what serves it.
    final class Party {
        let group: Scenario.Group
        let crowd: Crowd
        let source: EventSource
        /// Since the step began.
        var total = CrowdReport()

        init(_ group: Scenario.Group, _ crowd: Crowd, _ source: EventSource) {
            self.group = group
            self.crowd = crowd
            self.source = source
        }

        /// What watches each auction.
        var watchersPerAuction: Int { group.watchers / group.auctions }
    }

    let scenario: Scenario
    let servers: RunServers
    private(set) var parties: [Party] = []
    var report = RunReport()
    private let say: (String) -> Void
    private let start = Clock.monotonicMilliseconds()
    private var nextSampleAt: Int64 = 0
    private var lastSample = (at: Int64(0), deliveries: 0, gatewayCPU: Int64(0))
    var memories: [String: (bytes: Int, watchers: Int)] = [:]
    /// The greatest share of its processors that the tool itself used for a second.
    private var busiestTester = 0.0

    /// - Parameter say: is given a line of progress a second.
    package init(_ scenario: Scenario, say: @escaping (String) -> Void) throws {
        self.scenario = scenario
        self.say = say
        try Self.checkMachine(scenario)
        if let core = scenario.clientCore { Processor.pin(to: core) }
        servers = try RunServers(scenario.servers, needsTLS: scenario.groups.contains(where: \.tls))
        report.scenario = scenario.name
        report.summary = scenario.summary
        report.startedAt = Date.now.formatted(.iso8601)
        report.machine = Self.machine()
        var block = 0
        for group in scenario.groups {
            let auctions = (0..<group.auctions).map {
                group.isFloor ? "floor-\(group.name)-\($0)" : "\(group.name)-\($0)"
            }
            var plan = CrowdPlan(
                port: group.isFloor ? servers.floorPort : group.tls ? servers.securePort : servers.port,
                auctions: auctions, watchers: group.watchers)
            if group.tls { plan.tls = try servers.certificate?.client() }
            plan.deflates = group.deflates
            plan.transports = group.transports
            plan.slowPerMille = group.slowPerMille
            plan.stalledPerMille = group.stalledPerMille
            plan.connectRate = group.connectRate
            plan.isBare = group.isFloor
            plan.core = scenario.clientCore
            plan.threads = scenario.clientThreads
            plan.firstSourceBlock = block
            let crowd = Crowd(plan)
            block += crowd.threads
            let source = EventSource(
                redis: try RedisURL(text: servers.redis.url), auctions: auctions,
                fillerBytes: group.fillerBytes,
                losslessEvery: group.losslessEvery, core: scenario.clientCore)
            parties.append(Party(group, crowd, source))
        }
    }

    /// Takes all steps, audits, and stops everything, also after a failure.
    package func run() throws -> RunReport {
        defer { stop() }
        for step in scenario.steps { try take(step) }
        audit()
        report.judge(scenario.goals)
        if busiestTester > 0.9 {
            report.remarks.append(
                "the load tester itself used up to \(Int(busiestTester * 100)) % of its processors: delays may be its own"
            )
        }
        return report
    }

    private func stop() {
        for party in parties {
            party.crowd.stop()
            party.source.stop()
        }
        servers.stop()
    }

    private static func checkMachine(_ scenario: Scenario) throws {
        let available = MachineMemory.availableBytes() >> 20
        guard available >= scenario.servers.neededMegabytes else {
            throw ServerFailure(
                description: "\(scenario.name) needs \(scenario.servers.neededMegabytes) MiB of memory, "
                    + "\(available) are available")
        }
        let watchers = scenario.groups.reduce(0) { $0 + $1.watchers }
        let perGateway = DescriptorLimit.raise() - 256
        let gatewayWatchers = scenario.groups.filter { !$0.isFloor }.reduce(0) { $0 + $1.watchers }
        guard gatewayWatchers <= perGateway * scenario.servers.gateways else {
            throw ServerFailure(
                description:
                    "\(gatewayWatchers) watchers on \(scenario.servers.gateways) gateways of at most "
                    + "\(perGateway) open files: raise the limit (ulimit -n) or servers.gateways")
        }
        guard watchers <= 10_000_000 else { throw ServerFailure(description: "too many watchers") }
    }

    private static func machine() -> String {
        let model =
            (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n")
            .first { $0.hasPrefix("model name") }?.split(separator: ":").last?.trimmingPrefix(" ")
            ?? "unknown"
        let kernel =
            (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))?
            .split(separator: "\n").first ?? ""
        return "\(ProcessInfo.processInfo.activeProcessorCount) × \(model), "
            + "\(ProcessInfo.processInfo.physicalMemory >> 30) GiB, Linux \(kernel)"
    }

    func party(_ name: String) -> Party {
        guard let party = parties.first(where: { $0.group.name == name }) else {
            preconditionFailure("no group \(name)")
        }
        return party
    }

    var seconds: Double { Double(Clock.monotonicMilliseconds() - start) / 1_000 }

    // MARK: Waiting

    /// Waits for a condition, looking every few milliseconds; takes a sample a second meanwhile.
    func wait(_ what: String, seconds limit: Double, until condition: () -> Bool) throws {
        let deadline = seconds + limit
        while !condition() {
            guard seconds < Double(scenario.limitSeconds) else {
                throw TimedOut(
                    description: "the run did not end in \(scenario.limitSeconds) s, waiting for: \(what)")
            }
            guard seconds < deadline else {
                throw TimedOut(description: "\(what): not within \(Int(limit)) s")
            }
            sampleWhenDue()
            Processor.pause(microseconds: 5_000)
        }
    }

    func rest(seconds length: Double) throws {
        let end = seconds + length
        try wait("resting", seconds: length + 1) { seconds >= end }
    }

    private func sampleWhenDue() {
        let now = Clock.monotonicMilliseconds()
        guard now >= nextSampleAt else { return }
        // Looking at many processes takes time of its own.
        nextSampleAt = now + (servers.gateways.count > 8 ? 5_000 : 1_000)
        let elapsed = Double(now - lastSample.at) / 1_000
        var interval = CrowdReport()
        for party in parties {
            let part = party.crowd.collect()
            party.total.merge(part)
            interval.merge(part)
        }
        let reading = servers.reading(floor: false)
        let deliveries = parties.reduce(0) { $0 + $1.crowd.progress.deliveries.load(ordering: .relaxed) }
        defer { lastSample = (now, deliveries, reading.cpuNanoseconds) }
        guard lastSample.at > 0 else { return }
        var sample = Sample()
        sample.seconds = seconds
        sample.connected = connected
        sample.deliveriesPerSecond = Double(deliveries - lastSample.deliveries) / elapsed
        if interval.latency.totalCount > 0 {
            sample.p50Milliseconds = Double(interval.latency.valueAtPercentile(50)) / 1_000
            sample.p99Milliseconds = Double(interval.latency.valueAtPercentile(99)) / 1_000
        }
        sample.gatewayMegabytes = Double(reading.residentBytes) / 1_048_576
        sample.gatewayProcessors =
            max(0, Double(reading.cpuNanoseconds - lastSample.gatewayCPU)) / 1e9 / elapsed
        sample.testerProcessors = Double(interval.cpuNanoseconds) / 1e9 / elapsed
        report.samples.append(sample)
        let processors = scenario.clientCore == nil ? ProcessInfo.processInfo.activeProcessorCount : 1
        busiestTester = max(busiestTester, sample.testerProcessors / Double(processors))
        let endings = interval.endings.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }
        say(
            "\(Int(sample.seconds)) s  connected \(sample.connected)  deliveries/s \(Int(sample.deliveriesPerSecond))  "
                + "p99 \(RunReport.short(sample.p99Milliseconds)) ms  gateways \(Int(sample.gatewayMegabytes)) MB, "
                + "\(RunReport.short(sample.gatewayProcessors)) CPU  tester \(RunReport.short(sample.testerProcessors)) CPU"
                + (endings.isEmpty ? "" : "  ended \(endings.joined(separator: ", "))"))
    }

    var connected: Int { parties.reduce(0) { $0 + $1.crowd.progress.connected.load(ordering: .relaxed) } }

    /// What a group's watchers received since the last call.
    func takeTotal(_ party: Party) -> CrowdReport {
        party.total.merge(party.crowd.collect())
        defer { party.total = CrowdReport() }
        return party.total
    }

    /// Waits until every healthy watcher of a group is at the last event.
    func settle(_ party: Party, seconds limit: Double = 60) throws {
        let targets = party.source.truth().map(\.last)
        var nextLook = 0.0
        var behind = Behind()
        do {
            try wait("all of \(party.group.name) are at the last event", seconds: limit) {
                // Counting goes through every account: not too often.
                guard seconds >= nextLook else { return false }
                nextLook = seconds + (party.group.watchers > 100_000 ? 0.25 : 0.02)
                behind = party.crowd.countBehind(targets)
                return behind.count == 0
            }
        } catch let error as TimedOut {
            throw TimedOut(
                description: "\(error); \(behind.count) are not" + (behind.example.map { ": \($0)" } ?? ""))
        }
    }

    // MARK: The end

    private func audit() {
        for party in parties {
            let accounts = party.crowd.accounts()
            Audit.reconcile(
                accounts, with: party.source.truth(), auctions: party.source.auctions,
                group: party.group.name,
                into: &report.audit)
            guard party.group.auctions == 1, let first = accounts.first else { continue }
            let ledger = accounts.dropFirst().reduce(into: first.ledger) { $0.merge($1.ledger) }
            let whole = ledger.arrivals[0].filter { $0.applied == UInt32(party.watchersPerAuction) }
            guard let begin = whole.map(\.dueMicroseconds).min() else { continue }
            // A page need not show a hundred thousand events.
            let step = max(1, whole.count / 1_000)
            for index in stride(from: 0, to: whole.count, by: step) {
                report.broadcasts.append(
                    BroadcastPoint(
                        group: party.group.name, seconds: Double(whole[index].dueMicroseconds - begin) / 1e6,
                        lastWatcherMilliseconds: Double(
                            whole[index].lastMicroseconds - whole[index].dueMicroseconds) / 1_000))
            }
        }
        report.add("audit/faults", Double(report.audit.faults.values.reduce(0, +)), "")
    }
}
