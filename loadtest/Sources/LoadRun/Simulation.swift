// A model of gateways at the end of an auction: how late the last watcher sees a bid, while gateways drain
// and die and their watchers return. It counts watchers in fractions and advances in steps of a millisecond,
// so that ten million watchers cost as little as ten thousand. What a delivery and a connection cost are
// inputs, measured by the scenarios. The model knows what decides at this scale:
//
// - A gateway's loops share its watchers. A walk over them takes watchers × cost / loops.
// - Bids that fall due during a walk, or within `conflate-ms` after the last send, merge into one.
// - A loop serves walks and new connections in turns, each up to the gateway's own budget.
// - The kernel queues 4,096 new connections for each loop. The clients of others try again after a second.
//
// It does not know PostgreSQL, Redis, the network or slow clients.

package struct SimulationPlan: Sendable {
    package var watchers = 10_000_000
    package var gateways = 200
    /// Event loops of a gateway, each with a core of its own.
    package var loops = 4
    package var bidsPerSecond = 20.0
    package var conflateMilliseconds = 0
    /// Until the auction's end.
    package var seconds = 120
    /// Of an event on the wire, with headers.
    package var eventBytes = 400
    package var deliveryMicroseconds = 7.0
    /// Of a connection with its handshake and first message.
    package var connectMicroseconds = 50.0
    /// Gateways that are replaced one after the other, without a hand-over, from a quarter of the time on.
    package var drains = 0
    package var drainSeconds = 30
    /// Gateways that die together, at half the time, and are not replaced.
    package var kills = 0
    /// Clients that lost their gateway return within this time.
    package var backOffMilliseconds = 500

    package init() {}

    /// What contradicts itself; `nil` when nothing does.
    package var fault: String? {
        guard kills < gateways else { return "kills: \(kills) of \(gateways) gateways leave none" }
        guard drains + kills <= gateways else {
            return "drains: \(drains) and kills: \(kills) are more than \(gateways) gateways"
        }
        let drained = seconds / 4 + drains * drainSeconds
        guard drains == 0 || drained <= seconds else {
            return "drains: \(drains) of \(drainSeconds) s each exceed the last \(seconds - seconds / 4) s"
        }
        return nil
    }
}

package struct SimulationReport: Sendable {
    /// From a bid's time to a watcher's socket, over all connected watchers, in milliseconds.
    package var latency = Distribution()
    /// From the time of `AUCTION_ENDED` to the last watcher, in milliseconds.
    package var endMilliseconds = 0.0
    package var bids = 0
    /// The share of bids that merged into a newer one, averaged over the gateways that are alive at the end.
    package var mergedShare = 0.0
    /// Of the busiest gateway's processor time, from the beginning to the end of the auction.
    package var busyShare = 0.0
    /// In any second.
    package var peakBitsPerSecond = 0.0
    package var peakConnectsPerSecond = 0.0
    /// Connections that found a full queue, and tried again.
    package var retriedConnects = 0.0
    /// From the moment at which gateways died until as many watchers had their first message as before.
    package var returnSeconds: Double?
    package var mostWatchersOnGateway = 0.0
    /// Watchers when the simulation ends.
    package var watchers = 0.0
}

/// A histogram with one bucket for each millisecond.
package struct Distribution: Sendable {
    private var counts: [Double] = []
    private var total = 0.0

    mutating func add(_ milliseconds: Double, weight: Double) {
        let index = Int(max(0, milliseconds))
        while counts.count <= index { counts.append(0) }
        counts[index] += weight
        total += weight
    }

    /// The upper end of the millisecond below which this part of the values lies.
    package func percentile(_ percent: Double) -> Int {
        var seen = 0.0
        for (index, count) in counts.enumerated() {
            seen += count
            if seen >= total * percent / 100 { return index + 1 }
        }
        return counts.count
    }
}

package struct Simulation {
    /// Of the gateway: the sends and the accepts of a turn, and the listeners' queue.
    private static let sendsPerTurn = 1_024.0
    private static let acceptsPerTurn = 64.0
    private static let listenBacklog = 4_096.0
    /// When the kernel tries a connection again that found a full queue.
    private static let retryMilliseconds = 1_000

    private struct Gateway {
        var watchers = 0.0
        var accepts = true
        /// Connections that wait to be accepted.
        var queue = 0.0
        /// Processor time that the walk still needs, in microseconds; 0 when none is under way.
        var walk = 0.0
        var walkStart = 0
        var walkDue = 0
        var walkEnds = false
        /// The due time of the newest bid that waits for the next walk, and how many it stands for.
        var pendingDue: Int?
        var pendingBids = 0
        var pendingEnds = false
        var windowEnd = 0
        var busy = 0.0
        var merged = 0
        /// Watchers that leave in each millisecond of a drain, and until when.
        var leaving = 0.0
        var leavesUntil = 0
    }

    private let plan: SimulationPlan
    private var gateways: [Gateway]
    /// Connections that come back in each millisecond.
    private var returning: [Double]
    private var report = SimulationReport()
    private var sentBits: [Double]
    private var connected: [Double]
    /// Watchers before gateways died; `nil` without such a moment.
    private var before: Double?
    private var returnedAt: Int?

    package static func run(_ plan: SimulationPlan) -> SimulationReport {
        var simulation = Simulation(plan)
        return simulation.run()
    }

    private init(_ plan: SimulationPlan) {
        self.plan = plan
        let share = Double(plan.watchers) / Double(plan.gateways)
        gateways = Array(repeating: Gateway(watchers: share), count: plan.gateways)
        // Long enough for the last walk and the last return.
        let end = (plan.seconds + 10 * plan.drainSeconds + 600) * 1_000
        returning = Array(repeating: 0, count: end + Self.retryMilliseconds + 1)
        sentBits = Array(repeating: 0, count: end / 1_000 + 1)
        connected = Array(repeating: 0, count: end / 1_000 + 1)
    }

    private mutating func run() -> SimulationReport {
        let (end, half, quarter) = (plan.seconds * 1_000, plan.seconds * 500, plan.seconds * 250)
        let interval = 1_000 / plan.bidsPerSecond
        var nextBid = 0.0
        for now in 0..<(returning.count - Self.retryMilliseconds - 1) {
            if now >= quarter, now < end { drain(now, since: quarter) }
            if now == half { kill(now) }
            takeReturning(now)
            while nextBid < Double(min(now + 1, end)) {
                report.bids += 1
                for index in gateways.indices { publish(&gateways[index], due: now) }
                nextBid += interval
            }
            if now == end {
                for index in gateways.indices {
                    gateways[index].pendingEnds = true
                    publish(&gateways[index], due: now)
                }
            }
            for index in gateways.indices { work(index, now) }
            if let before, returnedAt == nil, now > half, watchers >= before - 0.5 { returnedAt = now }
            let isSettled = plan.kills == 0 || returnedAt != nil
            if isSettled, now > end,
                gateways.allSatisfy({ $0.walk == 0 && $0.pendingDue == nil && $0.queue < 0.5 })
            {
                break
            }
        }
        let alive = gateways.filter(\.accepts)
        report.mergedShare =
            alive.reduce(0.0) { $0 + Double($1.merged) } / Double(alive.count) / Double(max(1, report.bids))
        report.busyShare = (gateways.map(\.busy).max() ?? 0) / Double(end * 1_000 * plan.loops)
        report.peakBitsPerSecond = sentBits.max() ?? 0
        report.peakConnectsPerSecond = connected.max() ?? 0
        report.watchers = watchers
        report.returnSeconds = returnedAt.map { Double($0 - half) / 1_000 }
        return report
    }

    private var watchers: Double { gateways.reduce(0) { $0 + $1.watchers } }

    // MARK: Bids

    private func publish(_ gateway: inout Gateway, due: Int) {
        gateway.pendingDue = due
        gateway.pendingBids += 1
    }

    /// One millisecond of a gateway.
    private mutating func work(_ index: Int, _ now: Int) {
        var gateway = gateways[index]
        leave(&gateway, now)
        var left = Double(plan.loops) * 1_000
        let full = left
        let isBusy = gateway.walk > 0 || gateway.pendingDue != nil
        // Walks and new connections take turns, where both wait.
        let accepts = Self.acceptsPerTurn * plan.connectMicroseconds
        let sends = Self.sendsPerTurn * plan.deliveryMicroseconds
        let acceptShare = isBusy ? left * accepts / (accepts + sends) : left
        left -= accept(&gateway, within: acceptShare, now)
        while left > 0 {
            if gateway.walk == 0 {
                guard let due = gateway.pendingDue, gateway.pendingEnds || now >= gateway.windowEnd else {
                    break
                }
                begin(&gateway, due, now)
                if gateway.walk == 0 { continue }
            }
            let step = min(left, gateway.walk)
            gateway.walk -= step
            left -= step
            sentBits[now / 1_000] += step / plan.deliveryMicroseconds * Double(plan.eventBytes) * 8
            if gateway.walk == 0 { finish(&gateway, Double(now) + 1 - left / full) }
        }
        // What the walks leave is for connections too.
        left -= accept(&gateway, within: left, now)
        if now < plan.seconds * 1_000 { gateway.busy += full - left }
        report.mostWatchersOnGateway = max(report.mostWatchersOnGateway, gateway.watchers)
        gateways[index] = gateway
    }

    private func begin(_ gateway: inout Gateway, _ due: Int, _ now: Int) {
        gateway.walk = gateway.watchers * plan.deliveryMicroseconds
        gateway.walkStart = now
        gateway.walkDue = due
        gateway.walkEnds = gateway.pendingEnds
        gateway.merged += gateway.pendingBids - 1
        gateway.pendingDue = nil
        gateway.pendingBids = 0
        gateway.windowEnd = now + plan.conflateMilliseconds
    }

    /// - Parameter end: in milliseconds, with a fraction.
    private mutating func finish(_ gateway: inout Gateway, _ end: Double) {
        guard !gateway.walkEnds else {
            report.endMilliseconds = max(report.endMilliseconds, end - Double(gateway.walkDue))
            return
        }
        // The walk reaches its watchers evenly from its start to its end.
        let parts = 10
        for part in 0..<parts {
            let start = Double(gateway.walkStart)
            let time = start + (end - start) * Double(part + 1) / Double(parts)
            report.latency.add(
                time - Double(gateway.walkDue), weight: gateway.watchers / Double(parts))
        }
    }

    // MARK: Connections

    /// Returns the processor time that it took.
    private mutating func accept(_ gateway: inout Gateway, within budget: Double, _ now: Int) -> Double {
        guard gateway.queue > 0 else { return 0 }
        let count = min(gateway.queue, budget / plan.connectMicroseconds)
        gateway.queue -= count
        gateway.watchers += count
        connected[now / 1_000] += count
        return count * plan.connectMicroseconds
    }

    private mutating func takeReturning(_ now: Int) {
        let count = returning[now]
        guard count > 0 else { return }
        let open = gateways.indices.filter { gateways[$0].accepts }
        let room = Self.listenBacklog * Double(plan.loops)
        for index in open {
            let share = count / Double(open.count)
            let taken = min(share, room - gateways[index].queue)
            gateways[index].queue += taken
            returning[now + Self.retryMilliseconds] += share - taken
            report.retriedConnects += share - taken
        }
    }

    // MARK: Drains and deaths

    /// One gateway after the other leaves. Its successor accepts from the beginning.
    private mutating func drain(_ now: Int, since start: Int) {
        let length = plan.drainSeconds * 1_000
        guard plan.drains > 0, (now - start) % length == 0, (now - start) / length < plan.drains else {
            return
        }
        let index = (now - start) / length
        // The successor shares the old process's place in the model, as it shares its machine.
        gateways[index].leaving = gateways[index].watchers / Double(length)
        gateways[index].leavesUntil = now + length
    }

    private mutating func leave(_ gateway: inout Gateway, _ now: Int) {
        guard now < gateway.leavesUntil else { return }
        let count = min(gateway.leaving, gateway.watchers)
        gateway.watchers -= count
        // Each comes back after a random part of the drain's length.
        let length = plan.drainSeconds * 1_000
        let end = min(now + length, returning.count - 1)
        for time in now..<end { returning[time] += count / Double(length) }
    }

    private mutating func kill(_ now: Int) {
        guard plan.kills > 0 else { return }
        before = watchers
        for index in gateways.indices.suffix(plan.kills) {
            let lost = gateways[index].watchers + gateways[index].queue
            gateways[index] = Gateway(accepts: false)
            let end = now + max(1, plan.backOffMilliseconds)
            for time in now..<end { returning[time] += lost / Double(end - now) }
        }
    }
}
