// Asks the nodes of a Redis Cluster who serves which slot: every five seconds, and at once when a redirect or
// a lost connection says that something has changed. One thread asks one node after the other, beginning with
// the one that answered last. It prefers a node that takes commands and knows the latest epoch.

import Dispatch
import Reactor
import Synchronization

final class ClusterWatch: Sendable {
    /// How often the map is read without a reason.
    private static let interval = DispatchTimeInterval.seconds(5)
    /// The least time between two readings.
    private static let pauseMilliseconds: Int64 = 100
    /// How long a node may take to answer.
    private static let answerMilliseconds: Int32 = 500

    private let knowledge: Knowledge

    /// What the thread and the askers share. It outlives the watch until the thread has noticed its end.
    private final class Knowledge: Sendable {
        let seeds: [SocketAddress]
        let access: RedisAccess
        let state: Mutex<State>
        let version = Atomic<Int>(0)
        let signal = DispatchSemaphore(value: 0)
        let isWanted = Atomic<Bool>(false)
        let isOver = Atomic<Bool>(false)

        init(_ seeds: [SocketAddress], _ access: RedisAccess) {
            self.seeds = seeds
            self.access = access
            state = Mutex(State())
        }

        /// Changes the map, and tells the observers when that made a difference.
        func change<Result>(_ body: (inout ClusterMap) -> Result) -> Result where Result: Sendable {
            let (result, version, observers) = state.withLock { state in
                let before = state.map
                let members = state.members
                let result = body(&state.map)
                state.members = state.map.members(now: Clock.monotonicMilliseconds())
                guard state.map != before || state.members != members else {
                    return (result, nil as Int?, state.observers)
                }
                state.publish(access, after: before)
                return (result, state.published.version as Int?, state.observers)
            }
            if let version {
                self.version.max(version, ordering: .acquiringAndReleasing)
                for observer in observers { observer() }
            }
            return result
        }
    }

    private struct State {
        var map = ClusterMap()
        var members: Set<Int> = []
        var endpoints: [Int: RedisEndpoint] = [:]
        var published = RedisMap(owners: [Int32](repeating: -1, count: RedisSlots.count))
        var observers: [@Sendable () -> Void] = []

        /// Makes the map that everyone else sees.
        mutating func publish(_ access: RedisAccess, after before: ClusterMap) {
            let gaining = Set(zip(map.owners, before.owners).lazy.filter { $0 != $1 }.map { Int($0.0) })
            for (number, endpoint) in endpoints where !members.contains(number) {
                endpoint.retire()
                endpoints[number] = nil
            }
            for number in members {
                let endpoint =
                    endpoints[number]
                    ?? RedisEndpoint(map.nodes[number], access: access, isClusterNode: true)
                endpoint.join(
                    tag: RedisSlots.tag { map.owners[$0] == Int32(number) },
                    hasGained: gaining.contains(number))
                endpoints[number] = endpoint
            }
            published = RedisMap(
                version: published.version + 1, servers: endpoints, owners: map.owners)
        }
    }

    init(_ seeds: [SocketAddress], access: RedisAccess) {
        knowledge = Knowledge(seeds, access)
        LoopThread.detached(name: "cluster") { [knowledge] in Self.run(knowledge) }
    }

    deinit {
        knowledge.isOver.store(true, ordering: .releasing)
        knowledge.signal.signal()
    }

    // MARK: Questions

    var version: Int { knowledge.version.load(ordering: .acquiring) }

    var map: RedisMap { knowledge.state.withLock { $0.published } }

    /// Has the map read again.
    func refresh() {
        guard !knowledge.isWanted.exchange(true, ordering: .acquiringAndReleasing) else { return }
        knowledge.signal.signal()
    }

    /// Takes redirects, each with the number of the server that has answered with it. Returns the numbers of
    /// the servers to go to.
    func follow(_ redirects: [(redirect: RedisRedirect, origin: Int)]) -> [Int] {
        let numbers = knowledge.change { map in
            let now = Clock.monotonicMilliseconds()
            return redirects.map { redirect, origin in
                map.take(redirect, to: redirect.address(from: map.nodes[origin]), now: now)
            }
        }
        if !redirects.allSatisfy(\.redirect.isAsk) { refresh() }
        return numbers
    }

    /// Has `observer` called after each change, on any thread.
    func observe(_ observer: @escaping @Sendable () -> Void) {
        knowledge.state.withLock { $0.observers.append(observer) }
    }

    // MARK: The thread

    private static func run(_ knowledge: Knowledge) {
        var clients: [SocketAddress: RedisClient] = [:]
        /// The node that answered last.
        var informant: SocketAddress?
        while !knowledge.isOver.load(ordering: .acquiring) {
            // Before the questions: a wish that comes during them wants another round.
            while knowledge.signal.wait(timeout: .now()) == .success {}
            knowledge.isWanted.store(false, ordering: .releasing)
            if let (address, report) = read(knowledge, &clients, informant) {
                informant = address
                clients = clients.filter { $0.key == address }
                knowledge.change { $0.take(report, now: Clock.monotonicMilliseconds()) }
            } else {
                informant = nil
            }
            Clock.pause(milliseconds: pauseMilliseconds)
            // Without a map there is nothing to do but to ask again.
            guard informant != nil, !knowledge.isOver.load(ordering: .acquiring) else { continue }
            _ = knowledge.signal.wait(timeout: .now() + interval)
        }
    }

    /// Asks one node after the other until one gives a report that is healthy and not older than what is
    /// known. If none does, the best of the others counts.
    private static func read(
        _ knowledge: Knowledge, _ clients: inout [SocketAddress: RedisClient], _ informant: SocketAddress?
    ) -> (SocketAddress, ClusterMap.Report)? {
        let (epoch, members) = knowledge.state.withLock { state in
            (state.map.epoch, state.members.sorted().map { state.map.nodes[$0] })
        }
        var asked: Set<SocketAddress> = []
        var best: (SocketAddress, ClusterMap.Report)?
        for address in [informant].compactMap(\.self) + members.shuffled()
            + knowledge.seeds.shuffled()
        where asked.insert(address).inserted {
            do throws(RedisClient.Failure) {
                let client =
                    if let client = clients[address] { client } else {
                        try RedisClient(
                            endpoint: RedisEndpoint(address, access: knowledge.access),
                            timeoutMilliseconds: answerMilliseconds)
                    }
                clients[address] = client
                let replies = try client.pipeline([["CLUSTER", "SLOTS"], ["CLUSTER", "INFO"]])
                guard let report = ClusterMap.Report(slots: replies[0], info: replies[1], from: address)
                else { continue }
                if report.isHealthy, report.epoch >= epoch { return (address, report) }
                if best.map({ $0.1.epoch < report.epoch }) ?? true { best = (address, report) }
            } catch {
                clients[address] = nil
            }
        }
        return best
    }
}
