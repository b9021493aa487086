import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import LoadClient
import LocalServers
import TestSupport
import Testing

extension EndToEndTests {
    /// Requests that are sent again do nothing again.
    @Suite(.serialized) struct Idempotency {
        let redis: RedisServer
        let database: String
        let api: BidAPIProcess
        let path: String
        private let arguments: [String]

        init() throws {
            redis = try RedisServer()
            database = try SharedPostgres.database()
            // A key that several bid APIs share.
            let keys = try BidAPIProcess.sharedTokenKeys()
            arguments = ["--bids-per-minute", "5", "--token-keys", keys]
            api = try BidAPIProcess(database: database, redis: [redis.url], arguments: arguments)
            let id = try api.user("seller").createAuction(
                #"{"title":"lot","starting_price":10,"bid_increment":1,"duration_seconds":600}"#)
            path = "/api/v1/auctions/\(id)"
        }

        private func bid(
            _ amount: String, _ token: String, key: String?, header: String = "Idempotency-Key",
            on port: Int? = nil
        ) throws -> HTTPReply {
            try HTTPClient(port: port ?? api.port).request(
                "POST", path + "/bids", token: token, fields: key.map { [header: $0] } ?? [:],
                json: #"{"amount":\#(amount)}"#)
        }

        private func bidCount() throws -> Int {
            try HTTPClient(port: api.port).request("GET", path).json["bid_count"] as? Int ?? -1
        }

        @Test("a repeat gets the first answer, also through another bid API, and counts against no limit")
        func repeats() throws {
            let ava = try api.user("ava").token
            let first = try bid("10", ava, key: "k1")
            #expect(first.status == 201)
            let other = try BidAPIProcess(database: database, redis: [redis.url], arguments: arguments)
            for port in [Int](repeating: api.port, count: 10) + [other.port] {
                let again = try bid("10", ava, key: "k1", header: "X-Idempotency-Key", on: port)
                #expect(again.status == 200 && again.text == first.text, "\(again.text)")
            }
            // A rule's refusal is repeated with its own status, although it would be another now.
            let refused = try bid("11", ava, key: "k2")
            #expect(refused.status == 409 && refused.json["error"] as? String == "ALREADY_HIGHEST")
            #expect(try bid("11", try api.user("ben").token, key: "k2").status == 201)
            let again = try bid("11", ava, key: "k2")
            #expect(again.status == 409 && again.text == refused.text)
            #expect(try bidCount() == 2)
        }

        @Test("another request under the same key is 422, for this user alone; bad keys are 400")
        func mismatches() throws {
            let ava = try api.user("ava").token
            #expect(try bid("10", ava, key: "k").status == 201)
            let other = try bid("12", ava, key: "k")
            #expect(other.status == 422 && other.json["error"] as? String == "IDEMPOTENCY_MISMATCH")
            #expect(try bid("11", try api.user("ben").token, key: "k").status == 201)
            for key in ["", " ", String(repeating: "x", count: 65)] {
                #expect(try bid("13", ava, key: key).status == 400, "'\(key)'")
            }
            #expect(try bid("x", ava, key: "k3").status == 400)
            // What was malformed is not kept.
            #expect(try bid("14", ava, key: "k3").status == 201)
        }

        @Test(
            "of concurrent requests under one key one bids, and all get the same answer; other keys are unaffected"
        )
        func crowd() throws {
            let unlimited = try BidAPIProcess(database: database, redis: [redis.url])
            let port = unlimited.port
            let tokens = try (0..<4).map { try unlimited.user("bidder\($0)").token }
            let path = path
            let replies = try together(40) { index in
                // Ten requests of each bidder: five under one key, five under keys of their own.
                let (bidder, round) = (index % 4, index / 4)
                let key = round < 5 ? "same" : "own-\(round)"
                let amount = 100 + 10 * bidder + (round < 5 ? 0 : 100 * round)
                return try HTTPClient(port: port).request(
                    "POST", path + "/bids", token: tokens[bidder], fields: ["Idempotency-Key": key],
                    json: #"{"amount":\#(amount)}"#)
            }
            let statuses = replies.map(\.status)
            for bidder in 0..<4 {
                // The first five rounds were one request.
                let repeats = replies.indices.filter { $0 % 4 == bidder && $0 / 4 < 5 }.map { replies[$0] }
                #expect(Set(repeats.map(\.text)).count == 1, "\(repeats.map(\.text))")
                let answers = repeats.map(\.status).sorted()
                #expect(
                    [[200, 200, 200, 200, 201], [409, 409, 409, 409, 409]].contains(answers), "\(answers)")
            }
            #expect(statuses.allSatisfy { [200, 201, 409].contains($0) }, "\(statuses)")
            let created = statuses.count { $0 == 201 }
            #expect(try bidCount() == created)
            let connection = try PostgresConnection(url: database)
            let keys = try connection.query("SELECT count(*), count(status) FROM idempotency_keys")
            #expect(try keys.integer(0, 0) == 24 && keys.integer(0, 1) == 24)
        }

        @Test(
            "two requests under one key in one transaction: the one that is decided is answered, and kept as itself"
        )
        func sharedKey() throws {
            let seller = try api.user("seller2")
            let lot = #"{"title":"lot","starting_price":10,"bid_increment":1,"duration_seconds":600}"#
            let ids = try (0..<2).map { _ in try #require(AuctionID(try seller.createAuction(lot))) }
            let ava = try api.user("ava")
            let connection = try PostgresConnection(url: database)
            func decide(_ requests: [Int]) throws -> [String] {
                let batches = requests.map { request in
                    let key = IdempotencyKey(userID: ava.userID, key: "k", request: "request \(request)")
                    let bid = BidTransaction.Waiting(
                        bidID: "bid_\(request)", automaticBidID: "auto_\(request)", bidderID: ava.userID,
                        offer: .plain(Money(cents: 1_000)), key: key)
                    return BidTransaction.Batch(ids[request], [bid])
                }
                let conclusion = try BidTransaction.run(
                    connection, batches,
                    antiSniping: AntiSniping(windowMilliseconds: 0, extensionMilliseconds: 0)
                ) { _ in KeptAnswer(status: 201, body: "\(requests)") }
                guard case .certain(let decision) = conclusion else { return ["uncertain"] }
                return decision.outcomes.map { outcomes in
                    switch outcomes?[0] {
                    case .accepted?: "accepted"
                    case .repeated?: "repeated"
                    case .otherRequest?: "other request"
                    default: "undecided"
                    }
                }
            }
            // The first auction's row is held by somebody else meanwhile.
            let holder = try PostgresConnection(url: database)
            try holder.query("BEGIN")
            try holder.query("SELECT 1 FROM auctions WHERE auction_id = $1 FOR NO KEY UPDATE", [ids[0].text])
            #expect(try decide([0, 1]) == ["undecided", "accepted"])
            holder.rollBack()
            #expect(try decide([0]) == ["other request"])
            #expect(try decide([1]) == ["repeated"])
            #expect(try decide([0, 1]) == ["other request", "repeated"])
        }

        @Test("keys are forgotten after a day")
        func expiry() throws {
            let ava = try api.user("ava").token
            #expect(try bid("10", ava, key: "k").status == 201)
            let connection = try PostgresConnection(url: database)
            try connection.query("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
            let later = try bid("10", ava, key: "k")
            #expect(later.status == 409 && later.json["error"] as? String == "ALREADY_HIGHEST")
            try connection.query("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
            #expect(try !IdempotencyKeys.purge(connection))
            #expect(try connection.query("SELECT 1 FROM idempotency_keys").isEmpty)
        }

        @Test("amounts that do not rise, and gaps between sequence numbers, cannot be stored")
        func chain() throws {
            let ava = try api.user("ava").token
            let ben = try api.user("ben").token
            #expect(try bid("10", ava, key: nil).status == 201)
            #expect(try bid("20", ben, key: nil).status == 201)
            let connection = try PostgresConnection(url: database)
            for (amount, beaten) in [
                ("1500", "1000"), ("1500", "2000"), ("2500", "NULL"), ("2500", "1500"), ("2000", "2000"),
            ] {
                let insertion = """
                    INSERT INTO bids (bid_id, auction_id, seq, bidder_id, bidder, amount, beaten_amount, is_proxy, bid_at)
                    SELECT 'x', auction_id, seq + 100, bidder_id, bidder, \(amount), \(beaten), false, now()
                    FROM bids LIMIT 1
                    """
                #expect(throws: DatabaseError.self, "\(amount) after \(beaten)") {
                    try connection.query(insertion)
                }
            }
            // Nor can a sequence number without its event, or two numbers for one.
            for change in ["seq + 1", "seq - 1", "0"] {
                #expect(throws: DatabaseError.self, "\(change)") {
                    try connection.query("UPDATE auctions SET seq = \(change)")
                }
            }
        }
    }
}
