import AuctionStore
import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// What belongs to one user: bids, auctions, watchlist, notifications; and the lists that everybody sees.
    @Suite(.serialized) struct People {
        let redis: RedisServer
        let database: String
        let keys: String
        let api: BidAPIProcess
        let seller: BidClient

        init() throws {
            redis = try RedisServer()
            database = try SharedPostgres.database()
            keys = try BidAPIProcess.sharedTokenKeys()
            api = try BidAPIProcess(
                database: database, redis: [redis.url], arguments: ["--token-keys", keys])
            seller = try api.user("seller")
        }

        private func auction(_ title: String, _ more: String = #""duration_seconds":600"#) throws -> String {
            try seller.createAuction(#"{"title":"\#(title)","starting_price":10,"bid_increment":1,\#(more)}"#)
        }

        /// All rows of a list, page by page.
        private func rows(_ client: BidClient, _ path: String, _ name: String) throws -> [[String: Any]] {
            var rows: [[String: Any]] = []
            var cursor = ""
            while true {
                let mark = path.contains("?") ? "&" : "?"
                let page = try client.request("GET", "\(path)\(mark)limit=2&cursor=\(cursor)")
                try #require(page.status == 200, "\(page.text)")
                let found = page.json[name] as? [[String: Any]] ?? []
                #expect(found.count <= 2)
                rows += found
                guard let next = page.json["next_cursor"] as? String else { return rows }
                cursor = next
            }
        }

        private func titles(_ client: BidClient, _ path: String) throws -> [String] {
            try rows(client, path, "auctions").compactMap { $0["title"] as? String }
        }

        private func notifications(_ client: BidClient) throws -> [String] {
            try rows(client, "/api/v1/users/me/notifications", "notifications").map {
                "\($0["type"] ?? "") \($0["title"] ?? "") \($0["amount"] ?? "")"
            }
        }

        @Test("an auction shows users their own part in it, and nobody another user's maximum")
        func ownPart() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let id = try auction("lot")
            let path = "/api/v1/auctions/\(id)"
            func part(_ client: BidClient) throws -> [String: Any]? {
                let reply = try client.request("GET", path)
                try #require(reply.status == 200 && reply.json["you"] != nil, "\(reply.text)")
                return reply.json["you"] as? [String: Any]
            }
            #expect(try part(ava) == nil, "no bid, no part")
            try #require(try ava.bid("10", on: id).status == 201)
            try #require(
                try ava.request("POST", path + "/proxy", json: #"{"max_amount":731.95}"#).status == 201)
            try #require(try ben.bid("20", on: id).status == 201)
            let own = try #require(try part(ava))
            #expect(own["bidder"] as? String == "ava" && own["is_highest_bidder"] as? Bool == true)
            #expect(own["max_amount"] as? Double == 731.95 && own["bid_count"] as? Int == 2)
            let other = try #require(try part(ben))
            #expect(other["is_highest_bidder"] as? Bool == false)
            #expect(other["max_amount"] as? Int == 20 && other["bid_count"] as? Int == 1)
            for token in [nil, "rubbish"] {
                let fields = token.map { ["Authorization": "Bearer \($0)"] } ?? [:]
                let reply = try HTTPClient(port: api.port).request("GET", path, fields: fields)
                #expect(reply.status == 200 && reply.json["you"] == nil && !reply.text.contains("731.95"))
            }
        }

        @Test("a user's bids tell what has become of them, newest first")
        func bids() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let (one, two) = (try auction("one"), try auction("two"))
            for (user, id, amount) in [
                (ava, one, "10"), (ben, one, "11"), (ava, two, "10"), (ava, one, "12"),
            ] {
                #expect(try user.bid(amount, on: id).status == 201)
            }
            let bids = try rows(ava, "/api/v1/users/me/bids", "bids")
            #expect(
                bids.map { "\($0["title"] ?? "") \($0["amount"] ?? "")" } == ["one 12", "two 10", "one 10"])
            #expect(bids.map { $0["is_highest_bidder"] as? Bool } == [true, true, false])
            #expect(try rows(ben, "/api/v1/users/me/bids", "bids").count == 1)
            #expect(try titles(seller, "/api/v1/users/me/auctions") == ["two", "one"])
            #expect(try titles(ava, "/api/v1/users/me/auctions") == [])
        }

        @Test("a watchlist keeps what is put on it, once")
        func watchlist() throws {
            let ava = try api.user("ava")
            let path = "/api/v1/users/me/watchlist"
            let ids = try (0..<3).map { try auction("lot \($0)") }
            for id in ids + [ids[0]] { #expect(try ava.request("POST", "\(path)/\(id)").status == 201) }
            #expect(try ava.request("POST", "\(path)/none").status == 404)
            #expect(try titles(ava, path) == ["lot 2", "lot 1", "lot 0"])
            for _ in 0..<2 { #expect(try ava.request("DELETE", "\(path)/\(ids[1])").status == 204) }
            #expect(try titles(ava, path) == ["lot 2", "lot 0"])
            #expect(try titles(seller, path) == [])
            #expect(try HTTPClient(port: api.port).request("GET", path).status == 401)
        }

        @Test("users are told of their auctions as it happens, and can read it later")
        func notifications() throws {
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--token-keys", keys])
            let (ava, ben, chen) = (try api.user("ava"), try api.user("ben"), try api.user("chen"))
            let live = try WebSocketClient(
                port: gateway.port, path: "/v1/users/me/live?token=\(ava.token)")
            #expect(live.handshake.status == 101)
            let client = try redis.client()
            try eventually("the channel is subscribed") {
                try client.call("PUBSUB", "NUMSUB", RedisKeys.userChannel(ava.userID)).array?[1]
                    == .integer(1)
            }
            let id = try auction("vase", #""duration_seconds":600,"buy_now_price":50"#)
            for (user, amount) in [(ava, "10"), (chen, "11"), (ava, "12")] {
                #expect(try user.bid(amount, on: id).status == 201)
            }
            #expect(try ben.request("POST", "/api/v1/auctions/\(id)/buy-now").status == 201)
            var pushed: [Received] = []
            for _ in 0..<2 {
                guard case .text(let text)? = try live.next() else {
                    throw TimedOut(description: "nothing pushed")
                }
                pushed.append(try Received(text))
            }
            #expect(pushed.map(\.type) == ["OUTBID", "AUCTION_LOST"])
            #expect(pushed[0].json["auction_id"] as? String == id && pushed[0].json["amount"] as? Int == 11)
            #expect(try notifications(ava) == ["AUCTION_LOST vase 50", "OUTBID vase 11"])
            #expect(try notifications(chen) == ["AUCTION_LOST vase 50", "OUTBID vase 12"])
            #expect(try notifications(ben) == ["AUCTION_WON vase 50"])
            #expect(try notifications(seller) == ["AUCTION_SOLD vase 50"])
            let stored = try ava.request("GET", "/api/v1/users/me/notifications").text
            for message in pushed {
                #expect(stored.contains(try #require(message.json["notification_id"] as? String)))
            }
        }

        @Test("an auction that ends by the clock tells everybody, whatever the outcome")
        func endings() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let unsold = try auction("unsold", #""duration_seconds":2,"reserve_price":99"#)
            let sold = try auction("sold", #""duration_seconds":2"#)
            _ = try auction("quiet", #""duration_seconds":2"#)
            for (id, user, amount) in [(unsold, ava, "10"), (sold, ava, "10"), (sold, ben, "11")] {
                #expect(try user.bid(amount, on: id).status == 201)
            }
            let connection = try PostgresConnection(url: database)
            // The bids have moved the ends away.
            try connection.query(
                "UPDATE auctions SET ends_at = greatest(clock_timestamp(), starts_at + interval '1 ms')")
            try eventually("all are over") {
                try connection.query("SELECT 1 FROM auctions WHERE status = 'active'").isEmpty
            }
            #expect(
                try Set(notifications(ava)) == [
                    "AUCTION_LOST unsold 10", "OUTBID sold 11", "AUCTION_LOST sold 11",
                ])
            #expect(try notifications(ben) == ["AUCTION_WON sold 11"])
            #expect(
                try Set(notifications(seller)) == [
                    "AUCTION_UNSOLD unsold 10", "AUCTION_SOLD sold 11", "AUCTION_UNSOLD quiet <null>",
                ])
        }

        @Test("notifications are pushed when Redis is back, and are in the list meanwhile")
        func redisAway() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let id = try auction("lot")
            redis.kill()
            #expect(try ava.bid("10", on: id).status == 201)
            #expect(try ben.bid("11", on: id).status == 201)
            #expect(try notifications(ava) == ["OUTBID lot 11"])
            let connection = try PostgresConnection(url: database)
            // Nobody takes it before somebody listens.
            try connection.query("BEGIN")
            #expect(
                try connection.query("SELECT 1 FROM notifications WHERE pushed_at IS NULL FOR UPDATE").count
                    == 1)
            try redis.start()
            let listener = try redis.client()
            _ = try listener.call("SUBSCRIBE", RedisKeys.userChannel(ava.userID))
            try connection.query("COMMIT")
            let message = try #require(try listener.receive().array?[2].bytes)
            let pushed = try Received(String(decoding: message, as: UTF8.self))
            #expect(pushed.type == "OUTBID" && pushed.json["amount"] as? Int == 11)
        }

        @Test("words are found by their beginnings, in title, category and description, in any order")
        func search() throws {
            _ = try auction("Vintage Rolex watch", #""duration_seconds":600,"category":"jewelry""#)
            _ = try auction("Watches, assorted", #""duration_seconds":700,"description":"rusty, vintage""#)
            _ = try auction("Oil painting", #""duration_seconds":800,"category":"art""#)
            func found(_ query: String) throws -> [String] { try titles(seller, "/api/v1/auctions?\(query)") }
            #expect(try found("q=watch") == ["Vintage Rolex watch", "Watches, assorted"])
            #expect(try found("q=WATCHES%20vint") == ["Vintage Rolex watch", "Watches, assorted"])
            #expect(try found("q=jewelry") == ["Vintage Rolex watch"])
            #expect(try found("q=rol'%20%26%20!x:*") == [])
            #expect(try found("q=painting&category=art") == ["Oil painting"])
            #expect(try found("category=jewel") == [])
            #expect(try found("q=%27%27") == [])
            #expect(try found("q=").count == 3)
        }

        @Test("the trending list begins with what most was bid on lately; lists show what is not over")
        func lists() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            _ = try auction("quiet", #""duration_seconds":500"#)
            let hot = try auction("hot", #""duration_seconds":600"#)
            let once = try auction("once", #""duration_seconds":700"#)
            let gone = try auction("gone", #""duration_seconds":800"#)
            for amount in 10..<20 {
                #expect(try (amount % 2 == 0 ? ava : ben).bid("\(amount)", on: hot).status == 201)
            }
            #expect(try ava.bid("10", on: once).status == 201)
            #expect(try seller.request("DELETE", "/api/v1/auctions/\(gone)").status == 200)
            #expect(try titles(ava, "/api/v1/auctions?sort=trending") == ["hot", "once", "quiet"])
            #expect(try titles(ava, "/api/v1/auctions") == ["quiet", "hot", "once"])
            #expect(try titles(ava, "/api/v1/auctions?sort=newest") == ["gone", "once", "hot", "quiet"])
            #expect(try titles(ava, "/api/v1/auctions?status=cancelled") == ["gone"])
            // Yesterday's rush counts less than one bid of today.
            try PostgresConnection(url: database).query(
                "UPDATE auctions SET activity = activity - 24 WHERE auction_id = $1", [hot])
            #expect(try titles(ava, "/api/v1/auctions?sort=trending") == ["once", "hot", "quiet"])
            #expect(try ava.request("GET", "/api/v1/auctions?cursor=x").status == 400)
        }
    }
}
