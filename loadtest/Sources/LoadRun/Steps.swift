// The steps of a scenario, and the figures each of them gives.

import Foundation
import Histogram
import LoadEngine
import LocalServers
import Synchronization

extension ScenarioRunner {
    func take(_ named: Scenario.Named) throws {
        let name = named.name
        switch named.step {
        case .connect(let group, let count): try connect(name, party(group), to: count)
        case .publish(let group, let plan, let meanwhile): try publish(name, party(group), plan, meanwhile)
        case .compare(let groups, let pairs, let plan):
            try compare(name, groups.map { party($0) }, pairs: pairs, plan)
        case .rest(let length): try rest(seconds: Double(length))
        case .idle(let seconds): try idle(name, seconds: seconds)
        case .memory(let since): memory(name, since: since)
        case .disconnect(let group): try disconnect(name, party(group))
        case .restartRedis(let outage):
            servers.redis.kill()
            try rest(seconds: Double(outage))
            try servers.redis.start()
            // Taken up when what is being published is out, if the loss was not noticed by then.
            for party in parties { _ = party.source.refill() }
        case .restartGateways: try restartGateways(name)
        case .handOver(let times): try handOver(name, times: times)
        case .settle:
            let begin = seconds
            for party in parties { try settle(party) }
            report.add("\(name)/seconds", seconds - begin, "s")
        case .kernel(let sockets, let bytes, let rounds):
            let floor = try KernelFloor(sockets: sockets, bytes: bytes)
            for result in floor.measure(rounds: rounds) {
                report.add("\(name)/\(result.method) CPU", result.cpuMicroseconds, "µs")
            }
            floor.close()
        }
    }

    private func connect(_ name: String, _ party: Party, to count: Int) throws {
        let wanted = count == 0 ? party.group.watchers : min(count, party.group.watchers)
        let before = party.crowd.progress.connected.load(ordering: .relaxed)
        let reading = servers.reading(floor: party.group.isFloor)
        let memory = MachineMemory.availableBytes()
        let begin = seconds
        party.crowd.connect(wanted)
        try wait("\(wanted) watchers connected", seconds: 30 + Double(wanted) / 2_000) {
            party.crowd.progress.connected.load(ordering: .relaxed) >= wanted
        }
        let took = seconds - begin
        let cpu = servers.reading(floor: party.group.isFloor).cpuNanoseconds - reading.cpuNanoseconds
        let made = Double(wanted - before)
        report.add("\(name)/seconds", took, "s")
        report.add("\(name)/connects per second", made / took, "/s")
        report.add("\(name)/server CPU per connect", Double(cpu) / 1_000 / made, "µs")
        report.add("\(name)/machine memory used", Double(memory - MachineMemory.availableBytes()) / 1e9, "GB")
    }

    private func publish(
        _ name: String, _ party: Party, _ plan: PublishingPlan, _ meanwhile: [Scenario.Named]
    ) throws {
        _ = takeTotal(party)
        party.crowd.eventInterval(
            microseconds: Int(1_000_000 / plan.rate * Double(party.group.auctions)))
        let before = party.source.truth().map(\.last)
        let reading = servers.reading(floor: party.group.isFloor)
        let begin = seconds
        let answer = party.source.begin(plan)
        for step in meanwhile { try take(step) }
        var publishing: PublishingReport?
        try wait("publishing", seconds: Double(plan.events) / plan.rate * 2 + 120) {
            publishing = answer.poll()
            return publishing != nil
        }
        // Before anyone watches there is nothing to tell.
        guard let publishing, connected > 0 else { return }
        try settle(party)
        let took = seconds - begin
        let spent = servers.reading(floor: party.group.isFloor)
        let total = takeTotal(party)
        report.latency[name] = Self.distribution(total.latency)
        report.add("\(name)/events published", Double(publishing.events), "")
        report.add(
            "\(name)/publisher late p99", Double(publishing.lateness.valueAtPercentile(99)) / 1_000, "ms")
        report.add("\(name)/deliveries", Double(total.deliveries), "")
        report.add("\(name)/deliveries per second", Double(total.deliveries) / took, "/s")
        report.add("\(name)/merged per delivery", Double(total.merged) / Double(max(1, total.deliveries)), "")
        report.add("\(name)/latency p50", Double(total.latency.valueAtPercentile(50)) / 1_000, "ms")
        report.add("\(name)/latency p99", Double(total.latency.valueAtPercentile(99)) / 1_000, "ms")
        report.add(
            "\(name)/newest price age p99", Double(total.staleness.valueAtPercentile(99)) / 1_000, "ms")
        // Servers that were replaced meanwhile took their time with them.
        let cpu = spent.cpuNanoseconds - reading.cpuNanoseconds
        if cpu > 0 {
            report.add(
                "\(name)/server CPU per delivery", Double(cpu) / 1_000 / Double(max(1, total.deliveries)),
                "µs")
        }
        report.add("\(name)/tester CPU", Double(total.cpuNanoseconds) / 1e9 / took, "processors")
        addLastWatcher(name, party, after: before)
    }

    /// The time from when events were due to when the last of all watchers had each.
    private func addLastWatcher(_ name: String, _ party: Party, after before: [UInt64]) {
        let times = lastWatcherTimes(party, after: before[0])
        guard !times.isEmpty else { return }
        report.add("\(name)/last watcher median", times[times.count / 2], "ms")
        report.add("\(name)/last watcher max", times[times.count - 1], "ms")
    }

    /// Milliseconds, in rising order, of a group with one auction.
    private func lastWatcherTimes(
        _ party: Party, after first: UInt64, upTo last: UInt64 = .max
    ) -> [Double] {
        let accounts = party.crowd.accounts()
        guard party.group.auctions == 1, let own = accounts.first else { return [] }
        let ledger = accounts.dropFirst().reduce(into: own.ledger) { $0.merge($1.ledger) }
        let arrivals = ledger.arrivals[0]
        let range = min(Int(first), arrivals.count)..<Int(min(last, UInt64(arrivals.count)))
        return arrivals[range].filter { $0.applied == UInt32(party.watchersPerAuction) }
            .map { Double($0.lastMicroseconds - $0.dueMicroseconds) / 1_000 }.sorted()
    }

    private static func distribution(_ histogram: Histogram<UInt32>) -> [DistributionPoint] {
        [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100].map {
            DistributionPoint(percentile: $0, milliseconds: Double(histogram.valueAtPercentile($0)) / 1_000)
        }
    }

    // MARK: Comparing

    private struct Half {
        var cpuMicroseconds = 0.0
        var lastWatcherMilliseconds = 0.0
        var bytes = 0.0
    }

    /// Publishes on each group in turn, as often as there are pairs, and compares the first group with the
    /// second.
    private func compare(_ name: String, _ parties: [Party], pairs: Int, _ plan: PublishingPlan) throws {
        var halves: [[Half]] = parties.map { _ in [] }
        var ticks = parties.map { _ in (user: 0, deliveries: 0) }
        // The first pair warms; within a pair the order changes.
        for pair in 0...pairs {
            let order = pair.isMultiple(of: 2) ? Array(parties.indices) : parties.indices.reversed()
            for index in order {
                let party = parties[index]
                _ = takeTotal(party)
                let first = party.source.truth().map(\.last)
                let before = servers.reading(floor: party.group.isFloor)
                let answer = party.source.begin(plan)
                try wait("publishing", seconds: 120) { answer.poll() != nil }
                try settle(party)
                let after = servers.reading(floor: party.group.isFloor)
                let total = takeTotal(party)
                let deliveries = total.deliveries
                guard pair > 0 else { continue }
                var half = Half()
                half.cpuMicroseconds =
                    Double(after.cpuNanoseconds - before.cpuNanoseconds) / 1_000 / Double(max(1, deliveries))
                half.bytes = Double(total.receivedBytes) / Double(max(1, deliveries))
                let times = lastWatcherTimes(party, after: first[0])
                if !times.isEmpty { half.lastWatcherMilliseconds = times[times.count / 2] }
                halves[index].append(half)
                ticks[index].user += after.userTicks - before.userTicks
                ticks[index].deliveries += deliveries
            }
        }
        for (index, party) in parties.enumerated() {
            let title = "\(name)/\(party.group.name)"
            report.add("\(title) CPU per delivery", Self.median(halves[index].map(\.cpuMicroseconds)), "µs")
            report.add("\(title) bytes per delivery", Self.median(halves[index].map(\.bytes)), "B")
            // A tick is 10 ms.
            report.add(
                "\(title) user CPU per delivery",
                Double(ticks[index].user) * 10_000 / Double(max(1, ticks[index].deliveries)), "µs")
            guard party.group.auctions == 1 else { continue }
            report.add(
                "\(title) last watcher", Self.median(halves[index].map(\.lastWatcherMilliseconds)), "ms")
        }
        // What an event of this comparison costs, beside one that goes alone.
        if plan.burst > 1, let alone = report.value("one event/\(parties[0].group.name) CPU per delivery") {
            report.add(
                "\(name)/CPU per event beside one event",
                Self.median(halves[0].map(\.cpuMicroseconds)) / alone, "")
        }
        guard parties.count > 1 else { return }
        let ratios = zip(halves[0], halves[1]).map { $0.cpuMicroseconds / $1.cpuMicroseconds }
        report.add("\(name)/CPU ratio", Self.median(ratios), "")
        guard parties[0].group.auctions == 1 else { return }
        let lasts = zip(halves[0], halves[1]).map { $0.lastWatcherMilliseconds / $1.lastWatcherMilliseconds }
        report.add("\(name)/last watcher ratio", Self.median(lasts), "")
    }

    private static func median(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : values.sorted()[values.count / 2]
    }

    // MARK: Resting and falling

    private func idle(_ name: String, seconds length: Int) throws {
        let before = servers.reading(floor: false).cpuNanoseconds
        let begin = seconds
        try rest(seconds: Double(length))
        let spent = servers.reading(floor: false).cpuNanoseconds - before
        report.add(
            "\(name)/CPU per connection per second",
            Double(spent) / 1_000 / (seconds - begin) / Double(max(1, connected)), "µs")
    }

    private func memory(_ name: String, since: String?) {
        let bytes = servers.reading(floor: false).residentBytes
        memories[name] = (bytes, connected)
        report.add("\(name)/gateway memory", Double(bytes) / 1e6, "MB")
        guard let since, let earlier = memories[since] else { return }
        if connected == earlier.watchers {
            report.add("\(name)/growth since \(since)", Double(bytes - earlier.bytes) / 1e6, "MB")
        } else {
            report.add(
                "\(name)/memory per watcher",
                Double(bytes - earlier.bytes) / Double(connected - earlier.watchers), "B")
        }
    }

    private func disconnect(_ name: String, _ party: Party) throws {
        let logReads = servers.metric("gavelcast_log_reads_total")
        let stateReads = servers.metric("gavelcast_state_reads_total")
        let begin = seconds
        let progress = party.crowd.progress
        let earlier = progress.reconnects.load(ordering: .relaxed)
        for gateway in servers.gateways { try gateway.post("/v1/disconnect") }
        // The gateways spread the closes, so the number of connected watchers may never drop far.
        // A long-poll is answered and asks again over the same connection, so it does not reconnect.
        let transports = party.group.transports
        let leaving = (0..<party.group.watchers).count { transports[$0 % transports.count] != .longPoll }
        try wait("all came back", seconds: 120) {
            progress.reconnects.load(ordering: .relaxed) - earlier >= leaving
                && progress.connected.load(ordering: .relaxed) >= party.group.watchers
        }
        try settle(party)
        report.add("\(name)/seconds until all are back", seconds - begin, "s")
        report.add("\(name)/log reads", Double(servers.metric("gavelcast_log_reads_total") - logReads), "")
        report.add(
            "\(name)/state reads", Double(servers.metric("gavelcast_state_reads_total") - stateReads), "")
    }

    private func restartGateways(_ name: String) throws {
        let begin = seconds
        for index in servers.gateways.indices {
            let old = try servers.replace(index)
            try wait("a gateway drains", seconds: 90) { !old.process.isRunning }
        }
        try wait("all came back", seconds: 60) {
            connected >= parties.reduce(0) { $0 + $1.group.watchers }
        }
        report.add("\(name)/seconds", seconds - begin, "s")
    }

    private func handOver(_ name: String, times: Int) throws {
        let reconnects = self.reconnects
        var longest = 0.0
        for _ in 0..<times {
            for index in servers.gateways.indices {
                let begin = seconds
                let old = try servers.handOver(index)
                try wait("a gateway hands over", seconds: 60) { !old.process.isRunning }
                try servers.gateways[index].waitUntilReady()
                longest = max(longest, seconds - begin)
            }
        }
        report.add("\(name)/longest", longest, "s")
        report.add("\(name)/reconnects", Double(self.reconnects - reconnects), "")
    }

    private var reconnects: Int {
        parties.reduce(0) { $0 + $1.crowd.progress.reconnects.load(ordering: .relaxed) }
    }
}
