// Bids through the bid API at a steady rate, a crowd that watches them, and an audit of both. Tests make a
// fault meanwhile and learn how long the watchers were behind PostgreSQL.

import AuctionStore
import Foundation
import LoadClient
import LoadEngine
import LoadRun
import LocalServers
import Reactor
import Synchronization
import Testing

final class FailoverRun {
    private static let auctions = 16
    private static let watchers = 1_000
    private static let bidders = 10
    private static let bidsPerSecond = 100
    /// An event that the last watcher gets later than this after its commit was held up by the fault.
    private static let lateMicroseconds: Int64 = 300_000

    let api: BidAPIProcess
    let gateway: GatewayProcess
    let auctions: [String]
    private let database: String
    private let crowd: Crowd
    private let isOver = Locked(false)
    private let promised = Locked<[(bid: String, at: Int64)]>([])
    private let problems = Locked<[String]>([])
    private let bidding = DispatchGroup()

    /// - Parameters:
    ///   - redis: the services' `redis-url`s.
    ///   - database: the bid API's `database-url`.
    ///   - direct: the database's address for the tests' own questions, if another one.
    init(
        redis: [String], database: String, direct: String? = nil, apiArguments: [String] = [],
        gatewayArguments: [String] = []
    ) throws {
        self.database = direct ?? database
        api = try BidAPIProcess(database: database, redis: redis, arguments: apiArguments)
        gateway = try GatewayProcess(redis: redis, arguments: gatewayArguments)
        let seller = try api.user("seller")
        auctions = try (0..<Self.auctions).map { index in
            try seller.createAuction(
                #"{"title":"lot \#(index)","starting_price":1,"bid_increment":0.01,"duration_seconds":3600}"#)
        }
        crowd = Crowd(CrowdPlan(port: gateway.port, auctions: auctions, watchers: Self.watchers))
        crowd.connect(Self.watchers)
        try eventually("all watch", within: 60) {
            crowd.progress.connected.load(ordering: .relaxed) == Self.watchers
        }
        let users = try (0..<Self.bidders).map { try api.user("bidder\($0)").asSendable }
        for (index, user) in users.enumerated() {
            let (port, auctions, isOver) = (api.port, auctions, isOver)
            let (promised, problems, bidding) = (promised, problems, bidding)
            bidding.enter()
            Thread.detachNewThread {
                do {
                    try Self.bid(user, index, port, auctions, isOver, promised)
                } catch {
                    problems.with { $0.append("bidder \(index): \(error)") }
                }
                bidding.leave()
            }
        }
    }

    /// Bids at its share of the rate. A request without an answer, or with 503, is repeated with its key.
    private static func bid(
        _ user: SendableUser, _ index: Int, _ port: Int, _ auctions: [String], _ isOver: Locked<Bool>,
        _ promised: Locked<[(bid: String, at: Int64)]>
    ) throws {
        let http = HTTPClient(port: port)
        let interval = Double(bidders) / Double(bidsPerSecond)
        let start = Date.now
        var number = 0
        while !isOver.with({ $0 }) {
            let wait = start.addingTimeInterval(Double(number) * interval).timeIntervalSinceNow
            if wait > 0 { Processor.pause(microseconds: Int(wait * 1_000_000)) }
            let auction = auctions[(number * bidders + index) % auctions.count]
            number += 1
            let key = UUID().uuidString
            let deadline = Date.now + 60
            var isAnswered = false
            while !isAnswered {
                guard Date.now < deadline else { throw TimedOut(description: "no answer to \(key)") }
                // Each round is a cent higher. Of those who come late, most are too low.
                let cents = 100 + number * 10 + index
                let reply = try? http.request(
                    "POST", "/api/v1/auctions/\(auction)/bids", token: user.token,
                    fields: ["Idempotency-Key": key], json: #"{"amount":\#(Double(cents) / 100)}"#)
                switch reply?.status {
                case 200, 201:
                    if let bid = reply?.json["bid_id"] as? String {
                        promised.with { $0.append((bid, now())) }
                    }
                    isAnswered = true
                case 409: isAnswered = true
                case nil, 503: Processor.pause(microseconds: 20_000)
                default:
                    throw TimedOut(description: "\(reply?.status ?? 0) \(reply?.text ?? "")")
                }
            }
        }
    }

    /// Lets bids and deliveries go on.
    func goOn(_ seconds: Double) { Processor.pause(microseconds: Int(seconds * 1_000_000)) }

    /// When something happened, in microseconds of the wall clock.
    static func now() -> Int64 { Clock.wallMicroseconds() }

    /// The longest time in which no bid was promised, in milliseconds.
    var longestPause: Int {
        let times = promised.with { $0.map(\.at) }.sorted()
        return Int(zip(times.dropFirst(), times).map(-).max() ?? 0) / 1_000
    }

    struct Outcome {
        /// When the last watcher had the last event that was held up; `nil` when none was.
        let levelAt: Int64?
        /// From a commit until the last watcher had the bid, at worst.
        let worstMilliseconds: Int

        /// Milliseconds from `moment` until all watchers were level; 0 when they were level before.
        func level(after moment: Int64) -> Int { max(0, Int(((levelAt ?? moment) - moment) / 1_000)) }
    }

    /// Ends the bids, waits until every watcher has everything, and audits. Records an issue for each broken
    /// promise.
    func finish() throws -> Outcome {
        isOver.with { $0 = true }
        bidding.wait()
        let found = problems.with { $0 }
        #expect(found.isEmpty, "\(found.prefix(3))")
        let connection = try PostgresConnection(url: database)
        var truth: [LoadEngine.AuctionTruth] = []
        try eventually("everything is published", within: 60) {
            try connection.query("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1").isEmpty
        }
        truth = try PublishedEvents.truth(database: database, auctions: auctions)
        var behind = crowd.countBehind(truth.map(\.last))
        try? eventually("every watcher has everything", within: 60) {
            behind = crowd.countBehind(truth.map(\.last))
            return behind.count == 0
        }
        #expect(behind.count == 0, "\(behind.count) behind, such as \(behind.example ?? "?")")
        let accounts = crowd.accounts()
        var report = AuditReport()
        Audit.reconcile(accounts, with: truth, auctions: auctions, group: "crowd", into: &report)
        #expect(report.isClean, "\(report.text)")
        try checkPromises(connection)
        crowd.stop()
        return try outcome(accounts, connection)
    }

    /// Every 201 is stored, and no bid was promised for two requests.
    private func checkPromises(_ connection: PostgresConnection) throws {
        let rows = try connection.query("SELECT bid_id FROM bids")
        let stored = Set((0..<rows.count).map { rows.text($0, 0) })
        let promised = promised.with { $0.map(\.bid) }
        #expect(promised.count > Self.bidsPerSecond, "somebody bid")
        #expect(Set(promised).count == promised.count)
        #expect(Set(promised).subtracting(stored).isEmpty, "a promised bid is not stored")
        #expect(stored.subtracting(promised).isEmpty, "a bid is stored that nobody was promised")
    }

    private func outcome(_ accounts: [ShardAccounts], _ connection: PostgresConnection) throws -> Outcome {
        var ledger = accounts[0].ledger
        for shard in accounts.dropFirst() { ledger.merge(shard.ledger) }
        var levelAt: Int64?
        var worst: Int64 = 0
        for (auction, arrivals) in ledger.arrivals.enumerated() {
            let rows = try connection.query(
                "SELECT seq, (extract(epoch FROM bid_at) * 1000000)::bigint FROM bids WHERE auction_id = $1",
                [auctions[auction]])
            for row in 0..<rows.count {
                let index = Int(try rows.integer(row, 0)) - 1
                guard arrivals.indices.contains(index), arrivals[index].hash != 0 else { continue }
                let arrived = arrivals[index].lastMicroseconds
                let lateness = arrived - (try rows.integer(row, 1))
                worst = max(worst, lateness)
                if lateness > Self.lateMicroseconds { levelAt = max(levelAt ?? 0, arrived) }
            }
        }
        return Outcome(levelAt: levelAt, worstMilliseconds: Int(worst / 1_000))
    }
}
