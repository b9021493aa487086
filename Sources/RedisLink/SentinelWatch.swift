// Asks Sentinels which server is the master. Each Sentinel has a thread of its own, so that one that hangs
// delays no other. A thread asks every five seconds, whenever somebody wants to know, as soon as its Sentinel
// announces a new master, and often while a failover is under way. Of several answers the one with the
// highest epoch counts: a Sentinel that was cut off from the others still names an old master.

import Reactor
import Synchronization

final class SentinelWatch: Sendable {
    /// How often each Sentinel is asked.
    private static let interval = Duration.seconds(5)
    /// The same while the master is down or is being replaced.
    private static let shortInterval = Duration.milliseconds(50)
    /// What a Sentinel announces when a replica was made the master, and when that is agreed.
    private static let channels = ["+promoted-slave", "+switch-master"]
    /// The pause after a failed attempt.
    private static let pause = Duration.milliseconds(250)
    /// How long a Sentinel may take to answer.
    private static let answerMilliseconds: Int32 = 1_000
    /// How quickly a thread notices that somebody wants to know.
    private static let noticeMilliseconds: Int32 = 20

    let master: String
    private let state: Knowledge

    /// What the threads and the askers share. It outlives the watch until the threads have noticed its end.
    private final class Knowledge: Sendable {
        let reports: Mutex<SentinelReports>
        /// By Sentinel: true while somebody wants it asked again.
        let requests: Mutex<[Bool]>
        let isOver = Atomic<Bool>(false)

        init(count: Int) {
            reports = Mutex(SentinelReports(count: count))
            requests = Mutex([Bool](repeating: false, count: count))
        }

        func takeRequest(_ index: Int) -> Bool {
            requests.withLock { requests in
                defer { requests[index] = false }
                return requests[index]
            }
        }

        func hasRequest(_ index: Int) -> Bool { requests.withLock { $0[index] } }
    }

    init(_ sentinels: [SocketAddress], master: String, access: RedisAccess) {
        self.master = master
        state = Knowledge(count: sentinels.count)
        for (index, address) in sentinels.enumerated() {
            let endpoint = RedisEndpoint(address, access: access)
            LoopThread.detached(name: "sentinel-\(index)") { [state] in
                Self.follow(endpoint, index, master, state)
            }
        }
    }

    deinit {
        state.isOver.store(true, ordering: .releasing)
    }

    // MARK: Questions

    /// Has every Sentinel asked again.
    func refresh() {
        state.requests.withLock { requests in
            for index in requests.indices { requests[index] = true }
        }
    }

    func next() -> RedisEndpoint.Answer { state.reports.withLock { $0.answer(now: Self.now) } }

    var masterHost: String { state.reports.withLock { $0.master(now: Self.now)?.host ?? "" } }

    /// True when the master is known to be at another address.
    func hasMoved(from address: ResolvedAddress) -> Bool {
        state.reports.withLock { reports in
            guard let master = reports.master(now: Self.now), !master.addresses.isEmpty else { return false }
            return !master.addresses.contains(address)
        }
    }

    /// The master's address. Waits until a Sentinel has named it, at most `milliseconds`.
    func wait(_ milliseconds: Int32) throws(RedisClient.Failure) -> ResolvedAddress {
        let deadline = ContinuousClock.now + .milliseconds(Int(milliseconds))
        while true {
            switch next() {
            case .address(let address): return address
            case .failed(let reason): throw RedisClient.Failure(description: reason)
            case .pending:
                guard ContinuousClock.now < deadline else {
                    throw RedisClient.Failure(description: "no Sentinel has named \(master) yet")
                }
                Clock.pause(milliseconds: Int64(Self.noticeMilliseconds))
            }
        }
    }

    private static var now: Int64 { Clock.monotonicMilliseconds() }

    // MARK: One Sentinel

    private static func follow(_ endpoint: RedisEndpoint, _ index: Int, _ master: String, _ state: Knowledge)
    {
        var client: RedisClient?
        while !state.isOver.load(ordering: .acquiring) {
            do throws(RedisClient.Failure) {
                let connection =
                    if let client { client } else {
                        try RedisClient(endpoint: endpoint, timeoutMilliseconds: answerMilliseconds)
                    }
                client = connection
                _ = state.takeRequest(index)
                let report = try ask(connection, master)
                state.reports.withLock { $0.take(report, from: index, now: now) }
                try waitForNews(connection, index, state, isUnsettled: report.isUnsettled)
            } catch {
                client = nil
                let reason = "Sentinel \(endpoint.label): \(error)"
                state.reports.withLock { $0.failed(reason, from: index) }
                let end = ContinuousClock.now + pause
                while ContinuousClock.now < end, !state.isOver.load(ordering: .acquiring) {
                    Clock.pause(milliseconds: Int64(noticeMilliseconds))
                }
            }
        }
    }

    /// Asks for the master, and to be told of the next one. In one pipeline, so that no change comes between.
    private static func ask(
        _ client: RedisClient, _ master: String
    ) throws(RedisClient.Failure) -> SentinelReports.Report {
        try client.send(
            [
                ["UNSUBSCRIBE"] + channels, ["SENTINEL", "MASTER", master],
                ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master], ["SUBSCRIBE"] + channels,
            ])
        var answers: [RedisReply] = []
        var confirmations = 0
        // More than the two answers is no Sentinel's reply.
        while confirmations < 2 * channels.count, answers.count <= 2 {
            let reply = try client.receive()
            if let refusal = reply.refusal { throw RedisClient.Failure(description: refusal.text) }
            switch reply.array?.first?.bytes.map({ String(decoding: $0, as: UTF8.self) }) {
            case "subscribe", "unsubscribe": confirmations += 1
            case "message": break
            default: answers.append(reply)
            }
        }
        guard answers.count == 2, let report = SentinelReports.Report(answers[0], address: answers[1]) else {
            throw RedisClient.Failure(description: "no answer that names a master")
        }
        return report.resolved()
    }

    /// Returns when the Sentinel announces something, when somebody wants to know, or after the interval.
    private static func waitForNews(
        _ client: RedisClient, _ index: Int, _ state: Knowledge, isUnsettled: Bool
    ) throws(RedisClient.Failure) {
        let end = ContinuousClock.now + (isUnsettled ? shortInterval : interval)
        while ContinuousClock.now < end, !state.isOver.load(ordering: .acquiring),
            !state.hasRequest(index)
        {
            if try client.receive(within: noticeMilliseconds) != nil { return }
        }
    }
}
