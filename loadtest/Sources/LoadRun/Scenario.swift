// A scenario as its YAML file tells it: what is started, who watches, what happens in which order, and what
// the figures are to be. Every key is known and checked before anything is started.

package import LoadEngine

package struct Scenario: Sendable {
    package struct Servers: Sendable {
        /// Gateways, on one port when there are several.
        var gateways = 1
        /// Settings of every gateway, by name.
        var settings: [(name: String, value: String)] = []
        /// The processor the gateways and the floor stay on; `nil` for any.
        var core: Int?
        /// Whether the bare yardstick runs beside them.
        var hasFloor = false
        /// Memory that must be available, in MiB.
        var neededMegabytes = 0
    }

    package struct Group: Sendable {
        var name = ""
        var isFloor = false
        var watchers = 0
        var auctions = 1
        var transports: [CrowdTransport] = [.webSocket]
        var slowPerMille = 0
        var stalledPerMille = 0
        var tls = false
        var deflates = false
        var connectRate = 8_000
        var fillerBytes = 0
        var losslessEvery = 50
    }

    package indirect enum Step: Sendable {
        /// Connect a group up to so many watchers (0: all of it).
        case connect(group: String, to: Int)
        /// Publish on a group's auctions, and take other steps meanwhile.
        case publish(group: String, PublishingPlan, meanwhile: [Named])
        /// Publish on the groups in turns, and compare what their servers spent.
        case compare(groups: [String], pairs: Int, PublishingPlan)
        case rest(seconds: Int)
        /// Do nothing, and see what that costs.
        case idle(seconds: Int)
        /// Note the gateways' memory under a name; with `since`, also the slope from that reading, per
        /// watcher.
        case memory(since: String?)
        /// Have the gateways disconnect everyone, and wait until all are back.
        case disconnect(group: String)
        case restartRedis(outageSeconds: Int)
        /// One gateway after the other is replaced by a new one.
        case restartGateways
        /// Each gateway hands everything over to a new one, so many times.
        case handOver(times: Int)
        /// Wait until every healthy watcher is at the last event.
        case settle
        /// The kernel alone.
        case kernel(sockets: Int, bytes: Int, rounds: Int)
    }

    package struct Named: Sendable {
        let name: String
        let step: Step
    }

    /// What a figure is to be.
    package struct Goal: Sendable {
        let figure: String
        let atMost: Double?
        let atLeast: Double?
    }

    package var name: String
    package var summary = ""
    package var servers = Servers()
    package var groups: [Group] = []
    package var clientCore: Int?
    package var clientThreads = 1
    package var steps: [Named] = []
    package var goals: [Goal] = []
    /// A run that is not over by then is given up.
    package var limitSeconds = 300
}
