import Foundation
import LoadClient
import LocalServers
import RedisLink
import TestSupport
import Testing

/// What breaks while auctions go on. Whatever happens, at the end every watcher's applied state is the
/// publisher's truth, every jump was declared, and each lossless event came exactly once (or a declared
/// SNAPSHOT stands for it).
@Suite(.serialized) struct UpheavalTests {
    enum Fault: CaseIterable, Sendable {
        /// Redis ends as by a power cut, and comes back empty.
        case redisKilled
        /// Redis cuts the gateway's link.
        case linkKilled
        /// Redis hangs while its connections stay open.
        case redisPaused
        /// Redis cuts the gateway because it takes nothing.
        case outputBufferCut
        case disorder
        /// Watchers that stop reading for seconds.
        case slowWatchers
        /// Watchers that leave and come back, on the same transport or another.
        case restlessWatchers
    }

    @Test("each failure by itself", arguments: Fault.allCases)
    func alone(_ fault: Fault) throws {
        try run([fault], rounds: 1, .announced("\(fault)"))
    }

    @Test("all of them mixed at random")
    func mixed() throws {
        // `make soak` asks for more rounds; each breaks everything once, in an order of its own.
        let rounds = ProcessInfo.processInfo.environment["GAVELCAST_SOAK_ROUNDS"].flatMap { Int($0) } ?? 1
        try run(Fault.allCases, rounds: rounds, .announced("upheaval"))
    }

    private func run(_ faults: [Fault], rounds: Int, _ generator: SeededGenerator) throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--send-buffer-bytes", "8192"])
        try Upheaval(
            faults: faults, seed: generator.seed, redisURL: redis.url, ports: gateway.ports
        ).run(rounds: rounds, redis, gateway)
        // What was to happen did happen.
        for fault in faults {
            let evidence =
                switch fault {
                case .redisKilled, .linkKilled, .redisPaused, .outputBufferCut: "redis_link_losses"
                case .disorder: "gaps_filled"
                case .slowWatchers: "conflated"
                case .restlessWatchers: "resumes"
                }
            #expect(try gateway.metric("gavelcast_\(evidence)_total") > 0, "\(fault)")
        }
    }
}

/// One run: publishers, watchers and a hand that breaks things.
private final class Upheaval: Sendable {
    private static let auctions = ["a1", "a2", "a3"]
    private static let watchersPerAuction = 7

    let faults: [UpheavalTests.Fault]
    let seed: UInt64
    let redisURL: String
    let ports: GatewayPorts
    private let disorder = Locked(Disorder())
    private let isOver = Locked(false)
    /// Set when publishing has ended: what is true of each auction.
    private let truths = Locked<[String: (truth: AuctionTruth, isLossless: [Bool])]>([:])
    private let problems = Locked<[String]>([])
    private let pause = DispatchSemaphore(value: 0)

    init(faults: [UpheavalTests.Fault], seed: UInt64, redisURL: String, ports: GatewayPorts) {
        self.faults = faults
        self.seed = seed
        self.redisURL = redisURL
        self.ports = ports
    }

    func run(rounds: Int, _ redis: RedisServer, _ gateway: GatewayProcess) throws {
        var generator = SeededGenerator(seed: seed)
        let group = DispatchGroup()
        func start(_ body: @escaping @Sendable () -> Void) {
            group.enter()
            let thread = Thread {
                body()
                group.leave()
            }
            thread.stackSize = 1 << 20
            thread.start()
        }
        for (index, auction) in Self.auctions.enumerated() {
            start { [self] in publish(auction, UInt64(index)) }
            for watcher in 0..<Self.watchersPerAuction {
                start { [self] in watch(auction, UInt64(100 + 10 * index + watcher)) }
            }
        }
        wait(0.5)
        for _ in 0..<rounds {
            for fault in faults.shuffled(using: &generator) {
                do { try cause(fault, redis, gateway, &generator) } catch {
                    note("causing \(fault): \(error)")
                }
                wait(Double.random(in: 0.3...1, using: &generator))
            }
        }
        isOver.with { $0 = true }
        group.wait()
        let found = problems.with { $0 }
        #expect(found.isEmpty, "seed \(seed): \(found.prefix(5).joined(separator: "\n"))")
        #expect(gateway.process.isRunning, "\(gateway.process.log.suffix(2_000))")
        #expect(try gateway.metric("gavelcast_backlogs") == 0)
    }

    private func note(_ problem: String) {
        problems.with { $0.append(problem) }
        isOver.with { $0 = true }
    }

    private func wait(_ seconds: Double) { _ = pause.wait(timeout: .now() + seconds) }

    // MARK: Breaking things

    private func cause(
        _ fault: UpheavalTests.Fault, _ redis: RedisServer, _ gateway: GatewayProcess,
        _ generator: inout SeededGenerator
    ) throws {
        switch fault {
        case .redisKilled:
            redis.kill()
            wait(Double.random(in: 0.1...1.5, using: &generator))
            try redis.start()
        case .linkKilled:
            let client = try redis.client()
            for type in ["pubsub", "normal"] { _ = try client.call("CLIENT", "KILL", "TYPE", type) }
        case .redisPaused:
            redis.signal(SIGSTOP)
            wait(3)
            redis.signal(SIGCONT)
        case .outputBufferCut:
            let client = try redis.client()
            let limit = "client-output-buffer-limit"
            _ = try client.call("CONFIG", "SET", limit, "pubsub 65536 65536 1")
            gateway.process.kill(SIGSTOP)
            // More than the sockets between them hold, on a channel that the gateway hears.
            let junk = [UInt8](repeating: UInt8(ascii: "x"), count: 100_000)
            for _ in 0..<150 { _ = try client.call([Array("PUBLISH".utf8), Array("auction:a1".utf8), junk]) }
            gateway.process.kill(SIGCONT)
            _ = try client.call("CONFIG", "SET", limit, "pubsub 33554432 8388608 60")
        case .disorder:
            disorder.with { $0 = Disorder(repeats: 4, losses: 15, swaps: 6) }
            wait(2)
            disorder.with { $0 = Disorder() }
        case .slowWatchers, .restlessWatchers: wait(3)
        }
    }

    // MARK: Publishing

    private func publish(_ auction: String, _ number: UInt64) {
        let publisher = Publisher(
            auctionID: auction, redisURL: redisURL, fillerBytes: 600,
            generator: SeededGenerator(seed: seed &+ number))
        while !isOver.with({ $0 }) {
            publisher.publishNext(disorder.with { $0 })
            wait(0.003)
        }
        while !publisher.finish() { wait(0.05) }
        truths.with { $0[auction] = (publisher.truth, publisher.isLossless) }
    }

    // MARK: Watching

    private func watch(_ auction: String, _ number: UInt64) {
        var generator = SeededGenerator(seed: seed &+ number)
        var log = WatchLog()
        var transport = WatchTransport.allCases[Int(number) % WatchTransport.allCases.count]
        let deadline = Date.now + 300
        do {
            while !log.state.isEnded {
                guard Date.now < deadline else {
                    throw TimedOut(description: "not at the end, but at \(log.state) over \(transport)")
                }
                do {
                    try watchOnce(auction, transport, &log, &generator)
                } catch let failure as SocketFailure {
                    // Connections may break; a client comes back.
                    _ = failure
                    wait(0.05)
                }
                if faults.contains(.restlessWatchers) {
                    transport = WatchTransport.allCases.randomElement(using: &generator) ?? transport
                }
            }
            var known: (truth: AuctionTruth, isLossless: [Bool])?
            try eventually("publishing has ended", within: 120) {
                known = truths.with { $0[auction] }
                return known != nil
            }
            if let known { try log.compare(known.truth, known.isLossless) }
        } catch {
            note("watcher \(number) of \(auction): \(error)")
        }
    }

    /// Watches until the connection is given up, or the auction is over.
    private func watchOnce(
        _ auction: String, _ transport: WatchTransport, _ log: inout WatchLog,
        _ generator: inout SeededGenerator
    ) throws {
        let since = log.hasBegun ? log.state.sequence : nil
        let watcher = try Watcher(
            ports, auctionID: auction, over: transport, since: since, receiveBufferBytes: 4_096)
        defer { watcher.close() }
        log.begin(watcher)
        let isRestless = faults.contains(.restlessWatchers)
        var left = isRestless ? Int.random(in: 1...150, using: &generator) : .max
        while left > 0, !log.state.isEnded {
            left -= 1
            guard let message = try watcher.nextIfAny(within: 10) else { continue }
            if message.json["code"] != nil { return }
            try log.take(message)
            if faults.contains(.slowWatchers), Int.random(in: 0..<80, using: &generator) == 0 {
                wait(Double.random(in: 0.2...1.5, using: &generator))
            }
        }
    }
}

/// What one client was told, over all its connections.
private struct WatchLog {
    private(set) var state = AuctionTruth()
    private(set) var hasBegun = false
    /// Events that stood for several, as first and last.
    private var merged: [(first: Int, last: Int)] = []
    private var lossless: Set<Int> = []
    private var isFirst = false
    private var gaveCursor = false
    private var greets = true

    mutating func begin(_ watcher: Watcher) {
        isFirst = true
        gaveCursor = hasBegun
        greets = watcher.transport.form != .longPoll
    }

    mutating func take(_ message: Received) throws {
        defer { isFirst = false }
        if message.type == "RESUMED" {
            guard isFirst, gaveCursor, message.json["since"] as? Int == state.sequence else {
                throw TimedOut(description: "\(message.text) at \(state.sequence)")
            }
            return
        }
        if message.type == "SNAPSHOT" {
            let complete = try #require(message.json["complete"] as? Bool)
            guard complete == (isFirst && !gaveCursor) else {
                throw TimedOut(description: "complete is \(complete): \(message.text) at \(state.sequence)")
            }
            guard message.sequence >= state.sequence else {
                throw TimedOut(description: "back from \(state.sequence): \(message.text)")
            }
            state = try AuctionTruth(message)
            hasBegun = true
            return
        }
        guard !isFirst || gaveCursor && !greets else {
            throw TimedOut(description: "\(message.text.prefix(200)) as the first message")
        }
        let first = message.json["from_seq"] as? Int ?? message.sequence
        guard first == state.sequence + 1 else {
            throw TimedOut(description: "\(message.text.prefix(200)) after \(state.sequence)")
        }
        if first != message.sequence { merged.append((first, message.sequence)) }
        if message.type != "BID_UPDATE", !lossless.insert(message.sequence).inserted {
            throw TimedOut(description: "lossless \(message.sequence) came twice")
        }
        try state.apply(message)
    }

    func compare(_ truth: AuctionTruth, _ isLossless: [Bool]) throws {
        guard state == truth else { throw TimedOut(description: "ended as \(state) instead of \(truth)") }
        for (first, last) in merged {
            for sequence in first...last where isLossless[sequence - 1] {
                throw TimedOut(description: "lossless \(sequence) was merged into \(first)…\(last)")
            }
        }
        for sequence in lossless where !isLossless[sequence - 1] {
            throw TimedOut(description: "\(sequence) was no lossless event")
        }
    }
}
