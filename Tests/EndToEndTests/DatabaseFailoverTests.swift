import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// A PostgreSQL with a standby, and poolers before it.
    @Suite(.serialized) struct DatabaseFailover {
        private static let lot =
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#

        private func bid(
            _ user: SendableUser, _ api: Int, _ auction: String, _ amount: Int, key: String
        ) throws -> HTTPReply {
            try HTTPClient(port: api).request(
                "POST", "/api/v1/auctions/\(auction)/bids", token: user.token,
                fields: ["Idempotency-Key": key], json: #"{"amount":\#(amount)}"#)
        }

        enum PrimaryFault: CaseIterable, Sendable {
            case killed, paused
        }

        @Test(
            "a primary fails, its standby is promoted, the old primary returns: no promised bid is lost",
            arguments: PrimaryFault.allCases)
        func promotion(_ fault: PrimaryFault) throws {
            let first = try PostgresServer()
            let name = String(try first.database("promotion").split(separator: "/").last ?? "")
            let second = try PostgresServer(standbyOf: first)
            try first.requireStandby()
            let redis = try RedisServer()
            let url = "postgresql://gavelcast@127.0.0.1:\(first.port),127.0.0.1:\(second.port)/\(name)"
            let run = try FailoverRun(
                redis: [redis.url], database: url, direct: second.readingURL(name))
            run.goOn(1.5)
            let at = FailoverRun.now()
            if fault == .killed { first.kill() } else { first.signal(SIGSTOP) }
            try second.promote()
            try eventually("the standby takes writes") {
                try PostgresConnection(url: second.readingURL("postgres"))
                    .query("SELECT pg_is_in_recovery()").text(0, 0) == "f"
            }
            let accepts = FailoverRun.now()
            run.goOn(fault == .killed ? 2 : 6)
            // An operator restarts a killed primary read-only, so that it takes no bids. A paused one
            // continues, and its commits wait for a standby.
            if fault == .killed {
                try first.start(arguments: ["-c", "default_transaction_read_only=on"])
            } else {
                first.signal(SIGCONT)
            }
            run.goOn(2)
            let outcome = try run.finish()
            print(
                "PostgreSQL, \(fault): level \(outcome.level(after: at)) ms after the fault, "
                    + "\(outcome.level(after: accepts)) ms after the new primary took writes; "
                    + "which was \((accepts - at) / 1_000) ms after it; "
                    + "no bid was promised for \(run.longestPause) ms; "
                    + "the latest delivery took \(outcome.worstMilliseconds) ms")
            #expect(try run.api.isOK("/readyz"))
        }

        @Test("a commit whose wait for the standby was cancelled is not promised until a standby has it")
        func cancelledWait() throws {
            let primary = try PostgresServer()
            let database = try primary.database("waiting")
            let standby = try PostgresServer(standbyOf: primary)
            try primary.requireStandby()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let auction = try api.user("seller").createAuction(Self.lot)
            let user = try api.user("ava").asSendable
            standby.signal(SIGSTOP)
            let admin = try PostgresConnection(url: primary.readingURL("postgres"))
            // Cancels every wait, until it is told to stop.
            let isOver = Locked(false)
            let cancelling = DispatchGroup()
            let adminURL = primary.readingURL("postgres")
            DispatchQueue.global().async(group: cancelling) {
                guard let admin = try? PostgresConnection(url: adminURL) else { return }
                while !isOver.with({ $0 }) {
                    _ = try? admin.query(
                        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                    _ = DispatchSemaphore(value: 0).wait(timeout: .now() + 0.05)
                }
            }
            #expect(try bid(user, api.port, auction, 10, key: "first").status == 503)
            let stored = try admin.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            #expect(stored.isEmpty, "nobody waits any more")
            let connection = try PostgresConnection(url: database)
            #expect(try connection.query("SELECT 1 FROM bids").count == 1, "it is committed here")
            let early = try bid(user, api.port, auction, 10, key: "first")
            #expect(early.status == 503, "the repeat is not promised either")
            isOver.with { $0 = true }
            cancelling.wait()
            standby.signal(SIGCONT)
            let late = try bid(user, api.port, auction, 10, key: "first")
            #expect(late.status == 200 && late.json["bid_id"] != nil, "\(late.status) \(late.text)")
            #expect(try connection.query("SELECT 1 FROM bids").count == 1)
        }

        @Test("a session pooler works with its default configuration")
        func sessionPooler() throws {
            let postgres = try PostgresServer()
            _ = try postgres.database("pooled")
            let pooler = try Pooler(before: postgres)
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: pooler.url("pooled"), redis: [redis.url])
            let auction = try api.user("seller").createAuction(Self.lot)
            let bidders = try [api.user("ava"), api.user("ben")]
            for amount in 10...30 {
                #expect(try bidders[amount % 2].bid("\(amount)", on: auction).status == 201)
            }
            let settings = try PostgresConnection(url: pooler.url("pooled")).query(
                "SELECT current_setting('statement_timeout'), current_setting('TimeZone')")
            #expect(settings.text(0, 0) == "10s" && settings.text(0, 1) == "UTC")
        }

        @Test("while a pooler has no free connection, every request still gets an answer")
        func fullPooler() throws {
            let postgres = try PostgresServer()
            _ = try postgres.database("pooled")
            let pooler = try Pooler(before: postgres, connections: 4)
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: pooler.url("pooled"), redis: [redis.url])
            let statuses = Self.statuses(of: 40, at: [api.port])
            #expect(Set(statuses).isSubset(of: [200, 503]) && statuses.contains(200), "\(statuses)")
        }

        /// Asks for as many lists at the same time. 0 stands for no answer.
        static func statuses(of count: Int, at ports: [Int]) -> [Int] {
            let statuses = Locked<[Int]>([])
            let group = DispatchGroup()
            for index in 0..<count {
                group.enter()
                Thread.detachNewThread {
                    let client = HTTPClient(port: ports[index % ports.count])
                    let status = (try? client.request("GET", "/api/v1/auctions"))?.status ?? 0
                    statuses.with { $0.append(status) }
                    group.leave()
                }
            }
            group.wait()
            return statuses.with { $0 }
        }

        @Test("a slow statement leads to no other server, not even where any would be accepted")
        func slowStatement() throws {
            let primary = try PostgresServer()
            let standby = try PostgresServer(standbyOf: primary)
            let servers = DatabaseServers(
                "postgresql://gavelcast@127.0.0.1:\(primary.port),127.0.0.1:\(standby.port)/postgres"
                    + "?target_session_attrs=any")
            let connection = try PostgresConnection(servers)
            let holder = try PostgresConnection(servers)
            try holder.query("SELECT pg_advisory_lock(1)")
            let error = #expect(throws: DatabaseError.self) {
                try connection.query("SELECT pg_advisory_lock(1)")
            }
            #expect(error?.description.contains("55P03") == true, "the primary's own refusal, after 3 s")
            let next = try PostgresConnection(servers).query("SELECT pg_is_in_recovery()::text")
            #expect(next.text(0, 0) == "false")
        }

        @Test(
            "a pooler that gives each transaction another session is refused in one line, at start or later",
            arguments: ["transaction", "statement"])
        func transactionPooler(mode: String) throws {
            let postgres = try PostgresServer()
            _ = try postgres.database("pooled")
            let redis = try RedisServer()
            let pooler = try Pooler(before: postgres, mode: mode)
            func run() throws -> ChildProcess {
                try ChildProcess(
                    "bidapi",
                    [
                        Programs.path("gavelcast-bidapi"), "--listen", "127.0.0.1:\(Ports.free())",
                        "--admin-listen", "127.0.0.1:\(Ports.free())", "--database-url",
                        pooler.url("pooled"), "--redis-url", redis.url,
                    ])
            }
            let early = try run()
            try eventually("it ends") { !early.isRunning }
            #expect(early.waitForExit() == 78, "\(early.log)")
            let line = try #require(early.log.split(separator: "\n").last)
            #expect(line.contains("session pooling"), "\(early.log)")
            // PostgreSQL comes later than the bid API.
            postgres.kill()
            let late = try run()
            try postgres.start()
            try eventually("it ends, too") { !late.isRunning }
            #expect(late.waitForExit() == 78 && late.log.contains("session pooling"), "\(late.log)")
        }
    }
}
