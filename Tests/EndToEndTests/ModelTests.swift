import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import LoadClient
import LocalServers
import TestSupport
import Testing

extension EndToEndTests {
    /// Many who do anything at once, through two bid APIs, judged by the pure rules.
    @Suite(.serialized) struct Model {
        private static let clients = 50
        private static let snipeSeconds = 2
        private static let increments = IncrementTable(fixed: Money(cents: 100))
        private static let table = IncrementTable(rows: [
            .init(from: Money(cents: 0), increment: Money(cents: 25)),
            .init(from: Money(cents: 2_000), increment: Money(cents: 150)),
        ])!

        /// How an auction is made, and what the rules know of it.
        private struct Kind {
            let members: String
            let terms: AuctionTerms

            init(_ members: String, reserve: Int64? = nil, buyNow: Int64? = nil, increments: IncrementTable) {
                self.members = members
                terms = AuctionTerms(
                    title: "t", startingPrice: Money(cents: 1_000),
                    reservePrice: reserve.map { Money(cents: $0) },
                    buyNowPrice: buyNow.map { Money(cents: $0) }, increments: increments)
            }
        }

        private static let kinds = [
            Kind(#""duration_seconds":600,"bid_increment":1"#, increments: increments),
            Kind(
                #""duration_seconds":600,"bid_increment":1,"reserve_price":40,"buy_now_price":60"#,
                reserve: 4_000,
                buyNow: 6_000, increments: increments),
            // It ends meanwhile, unless late bids keep it open.
            Kind(#""duration_seconds":2,"bid_increment":1"#, increments: increments),
            Kind(
                #""duration_seconds":600,"increment_table":[{"from":0,"increment":0.25},{"from":20,"increment":1.5}]"#,
                increments: table),
        ]

        @Test(
            "random bids, maxima, purchases, cancellations and endings lead to what the rules say, in one order"
        )
        func random() throws {
            let rounds = ProcessInfo.processInfo.environment["GAVELCAST_SOAK_ROUNDS"].flatMap { Int($0) } ?? 1
            var generator = SeededGenerator.announced("bid model")
            for _ in 0..<rounds { try round(&generator) }
        }

        private func round(_ generator: inout SeededGenerator) throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let apis = try BidAPIProcess.pair(
                database: database, redis: redis.url,
                arguments: [
                    "--snipe-window-seconds", "\(Self.snipeSeconds)", "--snipe-extension-seconds", "2",
                ])
            let seller = try apis[0].user("seller")
            let admin = try apis[0].user("admin")
            let connection = try PostgresConnection(url: database)
            try connection.query("UPDATE users SET role = 'admin' WHERE user_id = $1", [admin.userID])
            let ports = apis.map(\.port)
            let users = try together(Self.clients) { index in
                try BidClient(port: ports[index % 2], username: "user\(index)").asSendable
            }
            let auctions = try Self.kinds.map {
                try seller.createAuction(#"{"title":"t","starting_price":10,\#($0.members)}"#)
            }
            let prices = Locked<[String: Double]>([:])
            let seeds = users.map { _ in generator.next() }
            let done = try together(Self.clients) { index in
                try Self.act(
                    users[index], auctions, ports: ports, prices,
                    SeededGenerator(seed: seeds[index]))
            }
            // One is moved on and then cancelled at last, bids or no bids.
            for action in [#"{"action":"extend","seconds":100}"#, #"{"action":"cancel"}"#] {
                #expect(
                    try admin.request("PUT", "/api/v1/admin/auctions/\(auctions[0])", json: action).status
                        == 200)
            }
            try eventually("the short one is over") {
                try seller.request("GET", "/api/v1/auctions/\(auctions[2])").json["status"] as? String
                    != "active"
            }
            for (index, id) in auctions.enumerated() {
                let bids = done.flatMap { $0 }.filter { $0.auction == id }.map(\.bid)
                try judge(id, Self.kinds[index], seller.userID, bids, connection)
            }
        }

        /// Twenty requests of one user.
        private static func act(
            _ user: SendableUser, _ auctions: [String], ports: [Int], _ prices: Locked<[String: Double]>,
            _ seed: SeededGenerator
        ) throws -> [(auction: String, bid: JudgedBid)] {
            var random = seed
            let http = ports.map { HTTPClient(port: $0) }
            return try (0..<20).map { _ in
                let auction = auctions.randomElement(using: &random)!
                let price = prices.with { $0[auction] ?? 10 }
                let amount = (price * 100 + Double(Int.random(in: -1...4, using: &random)) * 50).rounded()
                let maximum = amount + Double(Int.random(in: 0...6, using: &random)) * 100
                let (path, json, offer): (String, String, BidRequest.Offer) =
                    switch Int.random(in: 0..<100, using: &random) {
                    case 0..<40: ("bids", #"{"amount":\#(amount / 100)}"#, .plain(money(amount)))
                    case 40..<60:
                        (
                            "bids", #"{"amount":\#(amount / 100),"max_amount":\#(maximum / 100)}"#,
                            .limited(money(amount), maximum: money(maximum))
                        )
                    case 60..<98:
                        ("proxy", #"{"max_amount":\#(maximum / 100)}"#, .proxy(maximum: money(maximum)))
                    default: ("buy-now", "{}", .buyNow())
                    }
                let sentAt = now()
                let key = UUID().uuidString
                func send(_ http: HTTPClient) throws -> HTTPReply {
                    try http.request(
                        "POST", "/api/v1/auctions/\(auction)/\(path)", token: user.token,
                        fields: ["Idempotency-Key": key], json: json)
                }
                let first = Bool.random(using: &random) ? 0 : 1
                let reply = try send(http[first])
                let answeredAt = now()
                if Int.random(in: 0..<10, using: &random) == 0 {
                    let again = try send(http[1 - first])
                    #expect(
                        again.text == reply.text && again.status == (reply.status == 201 ? 200 : reply.status)
                    )
                }
                let seen = reply.json["new_current_price"] ?? reply.json["current_price"]
                if let seen = seen as? Double { prices.with { $0[auction] = seen } }
                return (
                    auction,
                    JudgedBid(
                        userID: user.userID, username: user.username, offer: offer, sentAt: sentAt,
                        answeredAt: answeredAt, status: reply.status, answer: reply.text)
                )
            }
        }

        private static func money(_ cents: Double) -> Money { Money(cents: Int64(cents)) }
        private static func now() -> Int64 { Int64(Date.now.timeIntervalSince1970 * 1_000) }

        private func judge(
            _ id: String, _ kind: Kind, _ sellerID: String, _ bids: [JudgedBid],
            _ connection: PostgresConnection
        ) throws {
            let rows = try connection.query(
                """
                SELECT floor(extract(epoch FROM starts_at) * 1000)::bigint, state FROM auctions
                WHERE auction_id = $1
                """, [id])
            let startsAt = Timestamp(milliseconds: try rows.integer(0, 0))
            let outbox = try connection.query(
                "SELECT event FROM outbox WHERE auction_id = $1 AND seq > 0 ORDER BY seq", [id])
            let events = (0..<outbox.count).map { outbox.text($0, 0) }
            let seconds: Int64 = kind.members.contains(#""duration_seconds":2,"#) ? 2 : 600
            let auction = Auction(
                id: AuctionID(id)!, sellerID: sellerID, currency: .dollars, terms: kind.terms,
                status: .active,
                endsAt: Timestamp(milliseconds: startsAt.milliseconds + seconds * 1_000))
            let snipe = Int64(Self.snipeSeconds) * 1_000
            var model = BidModel(
                antiSniping: AntiSniping(windowMilliseconds: snipe, extensionMilliseconds: 2_000),
                startsAt: startsAt, events: events, bids: bids)
            let others = bids.filter { ![201, 409, 410, 400].contains($0.status) }
            #expect(others.isEmpty, "\(others.first?.answer ?? "")")
            #expect(bids.contains { $0.isAccepted }, "somebody bid on \(id)")
            guard let history = model.history(of: auction), let last = history.last?.auction else {
                let here = events.dropFirst(model.explained).prefix(2).joined(separator: "\n")
                Issue.record("\(model.explained) of \(events.count) events are explained; then\n\(here)")
                return
            }
            let state = String(decoding: last.state.encoded(sequence: last.sequence), as: UTF8.self)
            #expect(rows.text(0, 1) == state)
            let unfounded = model.unfounded(history)
            #expect(unfounded.isEmpty, "\(unfounded.count) refusals: \(unfounded.prefix(2))")
            let chain = try connection.query(
                "SELECT amount, beaten_amount FROM bids WHERE auction_id = $1 ORDER BY seq", [id])
            #expect(chain.count == last.bidCount)
            for row in 0..<chain.count {
                #expect(
                    chain[row, 1] == (row == 0 ? nil : chain[row - 1, 0]),
                    "row \(row) names what it has beaten")
            }
        }
    }
}

/// Who bids, for other threads.
struct SendableUser: Sendable {
    let userID: String
    let username: String
    let token: String
}

extension BidClient {
    var asSendable: SendableUser { SendableUser(userID: userID, username: username, token: token) }
}
