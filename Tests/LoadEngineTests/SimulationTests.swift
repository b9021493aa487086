import LoadRun
import Testing

/// The model against what can be computed by hand. The scenario `capacity-check` compares it with a gateway.
@Suite struct SimulationTests {
    /// A loop that takes 100 ms for its 10,000 watchers.
    private static func plan(bidsPerSecond: Double, _ change: (inout SimulationPlan) -> Void = { _ in })
        -> SimulationReport
    {
        var plan = SimulationPlan()
        plan.watchers = 10_000
        plan.gateways = 1
        plan.loops = 1
        plan.seconds = 40
        plan.deliveryMicroseconds = 10
        plan.bidsPerSecond = bidsPerSecond
        change(&plan)
        #expect(plan.fault == nil)
        return Simulation.run(plan)
    }

    @Test("with time to spare, a bid reaches its watchers evenly within one walk")
    func calm() {
        let report = Self.plan(bidsPerSecond: 5)
        #expect(report.bids == 200 && report.mergedShare == 0)
        #expect((49...56).contains(report.latency.percentile(50)))
        #expect((99...101).contains(report.latency.percentile(100)))
        #expect((0.49...0.51).contains(report.busyShare))
        #expect((99...101).contains(report.endMilliseconds))
        #expect((1.5e8...1.7e8).contains(report.peakBitsPerSecond), "5 × 10,000 × 400 B")
    }

    @Test("loops share the watchers")
    func loops() {
        let report = Self.plan(bidsPerSecond: 5) { $0.loops = 4 }
        #expect((25...26).contains(report.latency.percentile(100)))
    }

    @Test("at twice what a loop can send, every second bid merges and the loop is full")
    func overload() {
        let report = Self.plan(bidsPerSecond: 20)
        #expect((0.49...0.51).contains(report.mergedShare))
        #expect(report.busyShare > 0.99)
        // The newest waits for at most a walk, and is sent in the next.
        #expect(report.latency.percentile(100) <= 201)
    }

    @Test("a window merges what falls into it")
    func window() {
        let report = Self.plan(bidsPerSecond: 20) { $0.conflateMilliseconds = 250 }
        #expect((0.79...0.81).contains(report.mergedShare))
        #expect((0.38...0.42).contains(report.busyShare))
    }

    @Test("the watchers of a dead gateway return, as fast as they are accepted")
    func deaths() {
        let report = Self.plan(bidsPerSecond: 1) {
            $0.gateways = 2
            $0.kills = 1
            $0.connectMicroseconds = 200
            $0.backOffMilliseconds = 100
        }
        #expect((9_999...10_001).contains(report.watchers))
        // 5,000 × 200 µs, after they found the queue full: 904 of them tried again after a second.
        let seconds = report.returnSeconds ?? .infinity
        #expect((1.0...1.4).contains(seconds), "\(seconds)")
        #expect((300...1_000).contains(report.retriedConnects), "\(report.retriedConnects)")
    }

    @Test("drained gateways lose nobody")
    func drains() {
        let report = Self.plan(bidsPerSecond: 5) {
            $0.gateways = 4
            $0.drains = 3
            $0.drainSeconds = 5
        }
        #expect((9_990...10_001).contains(report.watchers))
        #expect(report.retriedConnects == 0 && report.mostWatchersOnGateway < 5_000)
    }

    @Test("plans that contradict themselves are refused")
    func faults() {
        var plan = SimulationPlan()
        plan.kills = plan.gateways
        #expect(plan.fault?.contains("kills") == true)
        plan.kills = 0
        plan.gateways = 2
        plan.drains = 3
        plan.drainSeconds = 10
        #expect(plan.fault?.contains("drains") == true)
        plan.gateways = 200
        plan.drainSeconds = 30
        plan.drains = 10
        #expect(plan.fault?.contains("drains") == true)
    }
}
