import AuctionStore
import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What an independent attack on the bid API found, each mended and kept here.
    @Suite(.serialized) struct BidAbuse {
        private static let lot =
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":600}"#
        let redis: RedisServer
        let database: String
        let api: BidAPIProcess

        init() throws {
            redis = try RedisServer()
            database = try SharedPostgres.database()
            api = try BidAPIProcess(
                database: database, redis: [redis.url],
                arguments: [
                    "--bids-per-minute", "0", "--auctions-per-hour", "2", "--searches-per-minute", "0",
                ])
        }

        @Test("bids at the highest amount that there is are decided by the rules")
        func highestAmount() throws {
            let id = try api.user("seller").createAuction(Self.lot)
            let most = "999999999999.99"
            #expect(try api.user("ava").bid(most, on: id).status == 201)
            let equal = try api.user("ben").bid(most, on: id)
            #expect(equal.status == 409 && equal.json["error"] as? String == "BID_TOO_LOW", "\(equal.text)")
        }

        @Test("a bid that the database refuses fails alone, not the bids batched with it")
        func poisonedBatch() throws {
            let seller = try api.user("seller")
            let good = try seller.createAuction(Self.lot)
            let bad = try seller.createAuction(Self.lot)
            let ava = try api.user("ava").asSendable
            // Whatever is written of this auction breaks a constraint.
            try PostgresConnection(url: database).script(
                "ALTER TABLE bids ADD CONSTRAINT broken CHECK (auction_id <> '\(bad)')")
            let (ports, users) = (api.port, try (0..<12).map { try api.user("user\($0)").asSendable })
            let statuses = try together(24) { index in
                let isGood = index % 2 == 0
                return try HTTPClient(port: ports).request(
                    "POST", "/api/v1/auctions/\(isGood ? good : bad)/bids", token: users[index / 2].token,
                    json: #"{"amount":\#(10 + index)}"#
                ).status
            }
            for (index, status) in statuses.enumerated() {
                #expect(index % 2 == 0 ? [201, 409].contains(status) : status == 500, "\(index): \(status)")
            }
            let last = try HTTPClient(port: api.port).request(
                "POST", "/api/v1/auctions/\(good)/bids", token: ava.token, json: #"{"amount":100}"#)
            #expect(last.status == 201)
        }

        @Test("a body in another encoding than UTF-8 is refused")
        func encodings() throws {
            let id = try api.user("seller").createAuction(Self.lot)
            let token = try api.user("ava").token
            for encoding in [String.Encoding.utf16LittleEndian, .utf16BigEndian, .utf32LittleEndian] {
                let body = try #require(#"{"amount":11}"#.data(using: encoding))
                let socket = try BlockingSocket(port: api.port)
                try socket.send(
                    Array(
                        ("POST /api/v1/auctions/\(id)/bids HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \(token)\r\n"
                            + "Idempotency-Key: k\r\nContent-Length: \(body.count)\r\n\r\n").utf8)
                        + Array(body))
                #expect(try HTTPClient.readReply(socket).reply.status == 400, "\(encoding)")
            }
        }

        @Test("repeats bring no new bids beyond the limit")
        func repeatsAndLimits() throws {
            let limited = try BidAPIProcess(
                database: database, redis: [redis.url], arguments: ["--bids-per-minute", "2"])
            let id = try limited.user("seller").createAuction(Self.lot)
            let ava = try limited.user("ava")
            func bid(_ amount: Int, _ key: String) throws -> Int {
                try ava.request(
                    "POST", "/api/v1/auctions/\(id)/bids", json: #"{"amount":\#(amount)}"#,
                    fields: ["Idempotency-Key": key]
                ).status
            }
            #expect(try bid(10, "k1") == 201 && bid(11, "k2") == 409)
            for _ in 0..<3 {
                #expect(try bid(10, "k1") == 200, "a repeat is answered")
                #expect(try bid(12, UUID().uuidString) == 429, "and gives nothing back")
            }
            #expect(try bid(12, "k1") == 429, "another request under a known key is no repeat")
        }

        @Test("a cursor of another list is refused, however large")
        func cursors() throws {
            let ava = try api.user("ava")
            for path in ["auctions?sort=newest&", "auctions?", "users/me/bids?", "users/me/watchlist?"] {
                for number in ["9223372036854775807", "-9223372036854775808", "-1"] {
                    #expect(try ava.request("GET", "/api/v1/\(path)cursor=\(number).a").status == 400)
                }
            }
        }

        @Test("an auction read while bids arrive is a consistent snapshot")
        func oneMoment() throws {
            let id = try api.user("seller").createAuction(Self.lot)
            let users = try (0..<2).map { try api.user("user\($0)").asSendable }
            let (port, path) = (api.port, "/api/v1/auctions/\(id)")
            let isOver = Locked(false)
            let group = DispatchGroup()
            group.enter()
            Thread.detachNewThread {
                let http = HTTPClient(port: port)
                var amount = 10
                while !isOver.with({ $0 }) {
                    _ = try? http.request(
                        "POST", path + "/bids", token: users[amount % 2].token,
                        json: #"{"amount":\#(amount)}"#)
                    amount += 1
                }
                group.leave()
            }
            let http = HTTPClient(port: port)
            try eventually("there are bids") {
                try http.request("GET", path).json["bid_count"] as? Int ?? 0 > 5
            }
            for _ in 0..<300 {
                let auction = try http.request("GET", path).json
                let top = (auction["top_bids"] as? [[String: Any]])?.first?["amount"] as? Double
                #expect(
                    top == auction["current_price"] as? Double
                        && auction["seq"] as? Int == auction["bid_count"] as? Int)
            }
            isOver.with { $0 = true }
            group.wait()
        }

        @Test("words are found as they stand in a title, whatever is between them")
        func words() throws {
            let sellers = try (0..<4).map { try api.user("seller\($0)") }
            let titles = [
                "AC/DC tour shirt", "Ford F-150", "Boots, Dr.Martens 1.8", "iPhone-12 case",
                "The Who tickets",
                "happiness", "Über alles",
            ]
            for (index, title) in titles.enumerated() {
                _ = try sellers[index / 2].createAuction(
                    #"{"title":"\#(title)","starting_price":10,"duration_seconds":600}"#)
            }
            for (query, title) in [
                ("AC/DC", titles[0]), ("F-150", titles[1]), ("Dr.Martens", titles[2]), ("1.8", titles[2]),
                ("iPhone-12", titles[3]), ("the who", titles[4]), ("happines", titles[5]),
                ("über", titles[6]),
                ("shirts", titles[0]),
            ] {
                let words = try #require(query.addingPercentEncoding(withAllowedCharacters: .alphanumerics))
                let reply = try sellers[0].request("GET", "/api/v1/auctions?q=\(words)")
                let found = (reply.json["auctions"] as? [[String: Any]])?.compactMap {
                    $0["title"] as? String
                }
                #expect(found == [title], "\(query)")
            }
        }

        @Test("a banned user cannot read anything that needs a user")
        func bannedReaders() throws {
            let seller = try api.user("seller")
            let id = try seller.createAuction(Self.lot.dropLast() + #","visibility":"private"}"#)
            let connection = try PostgresConnection(url: database)
            try connection.query("UPDATE users SET banned_at = now() WHERE user_id = $1", [seller.userID])
            for (method, path) in [
                ("GET", "auctions/\(id)"), ("GET", "auctions/\(id)/bids"), ("POST", "auctions/\(id)/share"),
                ("GET", "users/me/notifications"), ("POST", "users/me/watchlist/\(id)"),
            ] {
                let reply = try seller.request(method, "/api/v1/\(path)")
                #expect(reply.status == 403 && reply.json["error"] as? String == "BANNED", "\(path)")
            }
        }

        @Test(
            "only auctions that come about count against the limit, and only times that can be written are taken"
        )
        func refusedCreations() throws {
            let seller = try api.user("seller")
            func create(_ start: String) throws -> Int {
                try seller.request(
                    "POST", "/api/v1/auctions",
                    json:
                        #"{"title":"t","starting_price":1,"starts_at":"\#(start)","duration_seconds":7776000}"#
                ).status
            }
            for _ in 0..<5 { #expect(try create("2020-01-01T00:00:00Z") == 400) }
            #expect(try create("9999-12-31T00:00:00Z") == 400)
            _ = try seller.createAuction(Self.lot)
        }

        @Test("a refused request is decided again under its key once it is valid")
        func wrongNow() throws {
            let seller = try api.user("seller")
            let id = try seller.createAuction(Self.lot)
            let ava = try api.user("ava")
            func buy() throws -> Int {
                try ava.request(
                    "POST", "/api/v1/auctions/\(id)/buy-now", fields: ["Idempotency-Key": "k"]
                ).status
            }
            #expect(try buy() == 400)
            let price = #"{"buy_now_price":50}"#
            #expect(try seller.request("PUT", "/api/v1/auctions/\(id)", json: price).status == 200)
            #expect(try buy() == 201 && buy() == 200)
        }

        @Test("a client that stops in the middle of a request does not keep the bid API from ending")
        func halfRequest() throws {
            let socket = try BlockingSocket(port: api.port)
            try socket.send(
                Array("POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{\"u".utf8))
            // Another one that goes away.
            let gone = try BlockingSocket(port: api.port)
            try gone.send(
                Array("POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{".utf8))
            gone.close()
            _ = try HTTPClient(port: api.port).request("GET", "/openapi.json")
            api.process.kill(SIGTERM)
            #expect(api.process.waitForExit() == 0, "\(api.process.log)")
            #expect(!api.process.log.contains("unexpected error"))
        }

        @Test("what is over is forgotten in time: keys, events, notifications")
        func forgetting() throws {
            let seller = try api.user("seller")
            let id = try seller.createAuction(Self.lot)
            let ava = try api.user("ava")
            #expect(
                try ava.request(
                    "POST", "/api/v1/auctions/\(id)/bids", json: #"{"amount":10}"#,
                    fields: ["Idempotency-Key": "k"]
                ).status == 201)
            let connection = try PostgresConnection(url: database)
            try connection.query("UPDATE auctions SET ends_at = clock_timestamp()")
            try eventually("it is over and published") {
                try connection.query(
                    """
                    SELECT 1 FROM auctions WHERE status = 'sold'
                        AND NOT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL)
                    """
                ).count == 1
            }
            func rows(_ table: String) throws -> Int {
                Int(try connection.query("SELECT count(*) FROM \(table)").integer(0, 0))
            }
            #expect(try !Outbox.prune(connection) && rows("outbox") == 3, "not yet")
            try connection.query("UPDATE auctions SET ended_at = ended_at - interval '25 hours'")
            try connection.query("UPDATE notifications SET created_at = created_at - interval '91 days'")
            _ = try Outbox.prune(connection)
            _ = try Notifications.prune(connection)
            #expect(try rows("outbox") == 0 && rows("notifications") == 0 && rows("bids") == 1)
            #expect(try Outbox.live(connection, after: "", limit: 10).isEmpty)
        }

        @Test("a Redis that hangs holds up its own auctions and no others")
        func sickRedis() throws {
            let other = try RedisServer()
            let urls = [redis.url, other.url]
            // With limits, which are counted in Redis too.
            let two = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: urls,
                arguments: ["--bids-per-minute", "1000", "--auctions-per-hour", "0"])
            let gateway = try GatewayProcess(redis: [redis.url])
            let seller = try two.user("seller")
            let ids = try (0..<20).map { _ in try seller.createAuction(Self.lot) }
            let healthy = try #require(ids.first { RedisKeys.server(of: $0, count: 2) == 0 })
            let sick = try #require(ids.first { RedisKeys.server(of: $0, count: 2) == 1 })
            let watcher = try gateway.watch(healthy)
            _ = try watcher.next()
            other.signal(SIGSTOP)
            let (ava, ben) = (try two.user("ava"), try two.user("ben"))
            #expect(try ava.bid("10", on: sick).status == 201)
            for amount in 10..<40 {
                #expect(try (amount % 2 == 0 ? ava : ben).bid("\(amount)", on: healthy).status == 201)
                // Each comes while the other server hangs.
                #expect(try watcher.next().sequence == amount - 9)
            }
            other.signal(SIGCONT)
            try eventually("the other one catches up") {
                try other.client().call("XLEN", RedisKeys.log(sick)) == .integer(1)
            }
        }
    }
}
