import AuctionStore
import Foundation
import LoadClient
import LocalServers
import RedisLink
import TestSupport
import Testing

extension EndToEndTests {
    /// Everything between a bidder and the watchers is killed, again and again, while bids go on.
    @Suite(.serialized) struct BidUpheaval {
        enum Victim: CaseIterable, Sendable {
            /// With its relay and its closer.
            case firstAPI, secondAPI
            case redis
            case postgresKilled, postgresImmediate
        }

        @Test(
            "whatever is killed, every 201 is stored, watchers see every event once and in order, and auctions end once"
        )
        func kills() throws {
            // `make soak` asks for more rounds.
            let rounds = ProcessInfo.processInfo.environment["GAVELCAST_SOAK_ROUNDS"].flatMap { Int($0) } ?? 6
            try BidUpheavalRun(.announced("bid upheaval")).run(rounds: rounds)
        }
    }
}

/// One run: bidders, watchers, and a hand that kills.
private final class BidUpheavalRun {
    private static let bidders = 8
    private static let lots = 3
    private static let transports: [WatchTransport] = [.webSocket, .eventStream, .longPoll]

    /// What a bidder was told of one request, as often as it took.
    private struct Told: Sendable {
        let auction: String
        let key: String
        let status: Int
        let bidID: String?
    }

    /// What a watcher got.
    private struct Seen: Sendable {
        let auction: String
        let last: Int
        /// Events that stand for themselves alone, as they came; a poll's answer holds them in another form.
        let events: [Int: String]

        init(_ watcher: Watcher) {
            auction = watcher.auctionID
            last = watcher.cursor ?? 0
            let single = watcher.messages.filter {
                $0.sequence > 0 && !["SNAPSHOT", "RESUMED"].contains($0.type) && $0.json["from_seq"] == nil
            }
            let texts = watcher.transport.form == .longPoll ? [] : single
            events = Dictionary(texts.map { ($0.sequence, $0.text) }) { first, _ in first }
        }
    }

    private var generator: SeededGenerator
    private let postgres: PostgresServer
    private let redis: RedisServer
    private let database: String
    private let keys: String
    private let ports: [Int]
    private var apis: [BidAPIProcess] = []
    private let gateway: GatewayProcess
    private let isOver = Locked(false)
    private let problems = Locked<[String]>([])
    private let pause = DispatchSemaphore(value: 0)

    init(_ generator: SeededGenerator) throws {
        self.generator = generator
        postgres = try PostgresServer()
        redis = try RedisServer()
        database = try postgres.database("upheaval")
        keys = try BidAPIProcess.sharedTokenKeys()
        ports = [try Ports.free(), try Ports.free()]
        gateway = try GatewayProcess(redis: [redis.url])
        apis = try [0, 1].map(start)
    }

    private func start(_ index: Int) throws -> BidAPIProcess {
        try BidAPIProcess(
            database: database, redis: [redis.url], arguments: ["--token-keys", keys], port: ports[index])
    }

    func run(rounds: Int) throws {
        let users = try (0..<Self.bidders).map { try apis[0].user("bidder\($0)").asSendable }
        let seller = try apis[0].user("seller")
        var auctions = try (0..<Self.lots).map { _ in try lot(seller, seconds: 3_600) }
        let watched = auctions
        let group = DispatchGroup()
        let told = Locked<[Told]>([])
        let seen = Locked<[Seen]>([])
        func start(_ name: String, _ body: @escaping @Sendable () throws -> Void) {
            group.enter()
            let thread = Thread { [problems] in
                do { try body() } catch { problems.with { $0.append("\(name): \(error)") } }
                group.leave()
            }
            thread.stackSize = 1 << 20
            thread.start()
        }
        let (isOver, ports, gatewayPorts) = (isOver, ports, gateway.ports)
        for auction in watched {
            for transport in Self.transports {
                start("watcher of \(auction) over \(transport)") {
                    let watcher = try Watcher(gatewayPorts, auctionID: auction, over: transport)
                    try Self.watch(watcher)
                    try watcher.checkPromises()
                    seen.with { $0.append(Seen(watcher)) }
                }
            }
        }
        for (index, user) in users.enumerated() {
            let random = SeededGenerator(seed: generator.next())
            start("bidder \(index)") {
                try Self.bid(user, watched, ports, random, isOver, told)
            }
        }
        for _ in 0..<rounds {
            // One that ends while things break.
            if let short = try? lot(seller, seconds: 1) { auctions.append(short) }
            try kill(Victim.allCases.randomElement(using: &generator) ?? .redis)
            wait(Double.random(in: 0.3...0.8, using: &generator))
        }
        isOver.with { $0 = true }
        try end(watched)
        group.wait()
        let found = problems.with { $0 }
        #expect(found.isEmpty, "\(found.prefix(3).joined(separator: "\n"))")
        try judge(auctions, told.with { $0 }, seen.with { $0 })
    }

    private typealias Victim = EndToEndTests.BidUpheaval.Victim

    private func wait(_ seconds: Double) { _ = pause.wait(timeout: .now() + seconds) }

    private func lot(_ seller: BidClient, seconds: Int) throws -> String {
        try seller.createAuction(
            #"{"title":"lot","starting_price":1,"bid_increment":0.01,"duration_seconds":\#(seconds)}"#)
    }

    private func kill(_ victim: Victim) throws {
        switch victim {
        case .firstAPI, .secondAPI:
            let index = victim == .firstAPI ? 0 : 1
            apis[index].process.kill(SIGKILL)
            apis[index].process.waitForExit()
            wait(Double.random(in: 0...0.5, using: &generator))
            apis[index] = try start(index)
        case .redis:
            redis.kill()
            wait(Double.random(in: 0...1, using: &generator))
            try redis.start()
        case .postgresKilled, .postgresImmediate:
            if victim == .postgresKilled { postgres.kill() } else { postgres.stopImmediately() }
            wait(Double.random(in: 0...1, using: &generator))
            try postgres.start()
        }
    }

    /// Ends the auctions that are watched, by the clock, when no more bids come.
    private func end(_ auctions: [String]) throws {
        try eventually("both bid APIs are ready", within: 60) {
            try apis.allSatisfy { try $0.isOK("/readyz") }
        }
        let connection = try PostgresConnection(url: database)
        for auction in auctions {
            try connection.query(
                "UPDATE auctions SET ends_at = clock_timestamp() WHERE auction_id = $1", [auction])
        }
    }

    // MARK: Those who take part

    /// Bids until it is over, and repeats a request with its key until somebody knows what became of it.
    private static func bid(
        _ user: SendableUser, _ auctions: [String], _ ports: [Int], _ seed: SeededGenerator,
        _ isOver: Locked<Bool>, _ told: Locked<[Told]>
    ) throws {
        var random = seed
        let clients = ports.map { HTTPClient(port: $0) }
        var prices: [String: Double] = [:]
        while !isOver.with({ $0 }) {
            let auction = auctions.randomElement(using: &random)!
            let cents =
                ((prices[auction] ?? 1) * 100).rounded() + Double(Int.random(in: 1...3, using: &random))
            let key = UUID().uuidString
            let deadline = Date.now + 60
            while true {
                guard Date.now < deadline else { throw TimedOut(description: "nobody knows of \(key)") }
                let client = clients[Int.random(in: 0...1, using: &random)]
                let reply = try? client.request(
                    "POST", "/api/v1/auctions/\(auction)/bids", token: user.token,
                    fields: ["Idempotency-Key": key], json: #"{"amount":\#(cents / 100)}"#)
                guard let reply, reply.status != 503 else {
                    _ = DispatchSemaphore(value: 0).wait(timeout: .now() + 0.02)
                    continue
                }
                let price = reply.json["new_current_price"] ?? reply.json["current_price"]
                if let price = price as? Double { prices[auction] = price }
                told.with {
                    $0.append(
                        Told(
                            auction: auction, key: key, status: reply.status,
                            bidID: reply.json["bid_id"] as? String))
                }
                break
            }
        }
    }

    /// Watches until the auction is over.
    private static func watch(_ watcher: Watcher) throws {
        while true {
            let message = try watcher.next(within: 120)
            if message.type == "AUCTION_ENDED" { return }
        }
    }

    // MARK: What must be true

    private static func describe(_ bids: [String], _ connection: PostgresConnection) throws -> String {
        try bids.map { bid in
            let row = try connection.query(
                """
                SELECT b.auction_id, b.bidder, b.amount, b.bid_at, k.key, k.status FROM bids b LEFT JOIN idempotency_keys k
                    ON k.user_id = b.bidder_id AND k.body LIKE '%' || b.bid_id || '%' WHERE b.bid_id = $1
                """, [bid])
            return (0..<6).map { row[0, $0] ?? "-" }.joined(separator: " ")
        }.joined(separator: "\n")
    }

    private func judge(
        _ auctions: [String], _ told: [Told], _ seen: [Seen]
    ) throws {
        #expect(told.contains { $0.status == 201 || $0.status == 200 }, "somebody bid")
        let strange = told.filter { ![200, 201, 409, 410].contains($0.status) }
        #expect(strange.isEmpty, "\(strange.prefix(3))")
        let connection = try PostgresConnection(url: database)
        let rows = try connection.query("SELECT bid_id FROM bids")
        let stored = Set((0..<rows.count).map { rows.text($0, 0) })
        let promised = told.filter { $0.status == 201 || $0.status == 200 }.compactMap(\.bidID)
        #expect(Set(promised).count == promised.count, "no bid was promised for two requests")
        let lost = Set(promised).subtracting(stored)
        #expect(lost.isEmpty, "promised and not stored: \(told.filter { lost.contains($0.bidID ?? "") })")
        let unknown = stored.subtracting(promised).sorted()
        let description = try Self.describe(unknown, connection)
        #expect(unknown.isEmpty, "stored and not promised: \(description)")
        for auction in auctions {
            try eventually("\(auction) is over, and published") {
                try connection.query(
                    """
                    SELECT 1 FROM auctions a WHERE auction_id = $1 AND status IN ('sold', 'unsold') AND NOT EXISTS
                        (SELECT 1 FROM outbox o WHERE o.auction_id = a.auction_id AND published_at IS NULL)
                    """, [auction]
                ).count == 1
            }
            let events = try connection.query(
                "SELECT seq, event FROM outbox WHERE auction_id = $1 AND seq > 0 ORDER BY seq", [auction])
            let ends = (0..<events.count).filter { events.text($0, 1).contains(#""type":"AUCTION_ENDED""#) }
            #expect(ends == [events.count - 1], "\(auction) ends once, at last")
            // The first ones of a long auction are forgotten.
            let last = Int(try events.integer(events.count - 1, 0))
            let first = last - events.count + 1
            #expect(try (0..<events.count).map { Int(try events.integer($0, 0)) } == Array(first...last))
            let log = try redis.client().call("XREVRANGE", RedisKeys.log(auction), "+", "-", "COUNT", "1")
            #expect(log.array?.first?.array?.first?.bytes == Array("\(last)-0".utf8))
            for watcher in seen where watcher.auction == auction {
                #expect(watcher.last == last)
                for (sequence, text) in watcher.events where sequence >= first {
                    #expect(text == events.text(sequence - first, 1))
                }
            }
        }
        #expect(seen.count == Self.lots * Self.transports.count)
    }
}
