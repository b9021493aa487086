import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// What sellers and administrators do with auctions, and who may see private ones.
    @Suite(.serialized) struct AuctionLife {
        private static let lot =
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"reserve_price":20,"duration_seconds":600}"#
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

        private func gateway() throws -> GatewayProcess {
            try GatewayProcess(redis: [redis.url], arguments: ["--token-keys", keys])
        }

        /// A user whom the operator made an administrator.
        private func admin() throws -> BidClient {
            let admin = try api.user("admin")
            try PostgresConnection(url: database).query(
                "UPDATE users SET role = 'admin' WHERE user_id = $1", [admin.userID])
            return admin
        }

        private func expect(
            _ reply: HTTPReply, _ status: Int, _ error: String? = nil,
            _ location: SourceLocation = #_sourceLocation
        ) {
            #expect(
                reply.status == status && reply.json["error"] as? String == error, "\(reply.text)",
                sourceLocation: location)
        }

        @Test("an auction without bids is changed, and its watchers see the new state")
        func update() throws {
            let gateway = try gateway()
            let id = try seller.createAuction(Self.lot)
            let path = "/api/v1/auctions/\(id)"
            let watcher = try gateway.watch(id)
            _ = try watcher.next()
            let reply = try seller.request(
                "PUT", path,
                json: #"{"title":"Better","starting_price":15,"category":"art","reserve_price":null}"#)
            expect(reply, 200)
            #expect(reply.json["title"] as? String == "Better" && reply.json["current_price"] as? Int == 15)
            #expect(reply.json["category"] as? String == "art" && reply.json["bid_increment"] as? Int == 1)
            let event = try watcher.next()
            #expect(event.type == "AUCTION_UPDATED" && event.sequence == 1)
            #expect(event.state?["title"] as? String == "Better")
            // The reserve is gone: the first bid meets it.
            let ava = try api.user("ava")
            expect(try ava.bid("14.99", on: id), 409, "BID_TOO_LOW")
            expect(try ava.bid("15", on: id), 201)
            #expect(try watcher.next().json["reserve_met"] as? Bool == true)
            expect(try seller.request("PUT", path, json: #"{"title":"Late"}"#), 409, "HAS_BIDS")
            expect(try seller.request("DELETE", path), 409, "HAS_BIDS")
        }

        @Test("changes are checked like a new auction, and only the seller makes them")
        func updateRefusals() throws {
            let id = try seller.createAuction(Self.lot)
            let path = "/api/v1/auctions/\(id)"
            for (json, field) in [
                (#"{"title":""}"#, "title"), (#"{"starting_price":0}"#, "starting_price"),
                (#"{"starting_price":30}"#, "reserve_price"), (#"{"buy_now_price":15}"#, "buy_now_price"),
                (#"{"currency":"EUR"}"#, "currency"), (#"{"visibility":"private"}"#, "visibility"),
                (#"{"ends_at":"2020-01-01T00:00:00Z"}"#, "ends_at"),
                (#"{"title":null,"image_urls":[1]}"#, "image_urls"),
                (#"{"starts_at":"2030-01-01T00:00:00Z"}"#, "starts_at"),
                (#"{"buy_now_price":"x"}"#, "buy_now_price"),
                (#"{"duration_seconds":7776001}"#, "duration_seconds"), (#"[]"#, "object"),
            ] {
                let reply = try seller.request("PUT", path, json: json)
                #expect(reply.status == 400 && reply.text.contains(field), "\(json): \(reply.text)")
            }
            let ava = try api.user("ava")
            expect(try ava.request("PUT", path, json: #"{"title":"Mine"}"#), 403, "FORBIDDEN")
            expect(try ava.request("DELETE", path), 403, "FORBIDDEN")
            expect(try ava.request("DELETE", "/api/v1/auctions/none"), 404, "NOT_FOUND")
            expect(try HTTPClient(port: api.port).request("DELETE", path), 401, "UNAUTHORIZED")
            #expect(try ava.request("GET", path).json["seq"] as? Int == 0, "nothing was changed")
        }

        @Test("an auction without bids is withdrawn, once, and takes no bids")
        func withdraw() throws {
            let gateway = try gateway()
            let id = try seller.createAuction(Self.lot)
            let watcher = try gateway.watch(id)
            _ = try watcher.next()
            let reply = try seller.request("DELETE", "/api/v1/auctions/\(id)")
            expect(reply, 200)
            #expect(reply.json["status"] as? String == "cancelled")
            let event = try watcher.next()
            #expect(event.type == "AUCTION_ENDED" && event.json["outcome"] as? String == "cancelled")
            expect(try seller.request("DELETE", "/api/v1/auctions/\(id)"), 410, "AUCTION_ENDED")
            expect(try api.user("ava").bid("10", on: id), 410, "AUCTION_ENDED")
        }

        @Test("a scheduled auction's start is moved while it waits")
        func reschedule() throws {
            func time(_ seconds: Double) -> String {
                Date.now.addingTimeInterval(seconds).formatted(.iso8601)
            }
            let id = try seller.createAuction(
                #"{"title":"Later","starting_price":1,"starts_at":"\#(time(3_600))","ends_at":"\#(time(7_200))"}"#
            )
            let reply = try seller.request(
                "PUT", "/api/v1/auctions/\(id)", json: #"{"starts_at":"\#(time(1))"}"#)
            expect(reply, 200)
            try eventually("it starts then") {
                try seller.request("GET", "/api/v1/auctions/\(id)").json["status"] as? String == "active"
            }
        }

        @Test("administrators cancel and extend, which watchers see and the audit log keeps")
        func administration() throws {
            let gateway = try gateway()
            let admin = try admin()
            let id = try seller.createAuction(Self.lot)
            let path = "/api/v1/admin/auctions/\(id)"
            let watcher = try gateway.watch(id)
            let before = try #require(try watcher.next().state?["ends_at"] as? String)
            expect(try api.user("ava").bid("10", on: id), 201)
            #expect(try watcher.next().type == "BID_UPDATE")
            expect(try seller.request("PUT", path, json: #"{"action":"cancel"}"#), 403, "FORBIDDEN")
            for json in [
                #"{"action":"end"}"#, #"{"action":"extend"}"#, #"{"action":"extend","seconds":0}"#,
                #"{"action":"extend","ends_at":"\#(before)"}"#, #"{}"#, #"{"action":"cancel","reason":1}"#,
            ] {
                expect(try admin.request("PUT", path, json: json), 400, "VALIDATION_ERROR")
            }
            expect(try admin.request("PUT", path, json: #"{"action":"extend","seconds":60}"#), 200)
            let extended = try watcher.next()
            #expect(extended.type == "TIME_EXTENDED" && extended.json["reason"] as? String == "admin")
            #expect(extended.json["previous_ends_at"] as? String == before)
            expect(try admin.request("PUT", path, json: #"{"action":"cancel","reason":"fake"}"#), 200)
            let ended = try watcher.next()
            #expect(ended.json["outcome"] as? String == "cancelled" && ended.json["winner"] is NSNull)
            expect(try admin.request("PUT", path, json: #"{"action":"cancel"}"#), 410, "AUCTION_ENDED")
            expect(
                try admin.request("PUT", "/api/v1/admin/auctions/none", json: #"{"action":"cancel"}"#), 404,
                "NOT_FOUND")
            let log = try admin.request("GET", "/api/v1/admin/audit?limit=1")
            let entries = log.json["entries"] as? [[String: Any]] ?? []
            #expect(entries.count == 1 && entries[0]["action"] as? String == "cancel")
            #expect(entries[0]["auction_id"] as? String == id && entries[0]["reason"] as? String == "fake")
            let cursor = try #require(log.json["next_cursor"] as? String)
            let older = try admin.request("GET", "/api/v1/admin/audit?cursor=\(cursor)")
            #expect(
                (older.json["entries"] as? [[String: Any]])?.compactMap { $0["action"] as? String } == [
                    "extend"
                ])
            expect(try seller.request("GET", "/api/v1/admin/audit"), 403, "FORBIDDEN")
        }

        @Test("a banned user acts no more until the ban is lifted")
        func bans() throws {
            let admin = try admin()
            let ava = try api.user("ava")
            let id = try seller.createAuction(Self.lot)
            let path = "/api/v1/admin/users/\(ava.userID)/ban"
            expect(try seller.request("POST", path), 403, "FORBIDDEN")
            expect(try admin.request("POST", "/api/v1/admin/users/nobody/ban"), 404, "NOT_FOUND")
            let banned = try admin.request("POST", path, json: #"{"reason":"shill"}"#)
            expect(banned, 200)
            #expect(banned.json["banned"] as? Bool == true)
            expect(try ava.bid("10", on: id), 403, "BANNED")
            expect(try ava.request("POST", "/api/v1/auctions", json: Self.lot), 403, "BANNED")
            expect(try admin.request("POST", path, json: #"{"banned":false}"#), 200)
            expect(try ava.bid("10", on: id), 201)
        }

        @Test(
            "a private auction is in no list, needs a token to be read, and is watched with the seller's share token"
        )
        func privateAuctions() throws {
            let gateway = try gateway()
            let id = try seller.createAuction(
                #"{"title":"Secret","starting_price":10,"duration_seconds":600,"visibility":"private"}"#)
            #expect(id.hasPrefix("prv_"))
            let path = "/api/v1/auctions/\(id)"
            let ava = try api.user("ava")
            let nobody = HTTPClient(port: api.port)
            expect(try nobody.request("GET", path), 401, "UNAUTHORIZED")
            expect(try nobody.request("GET", path + "/bids"), 401, "UNAUTHORIZED")
            expect(try ava.request("GET", path), 200)
            #expect(try !ava.request("GET", "/api/v1/auctions?sort=newest").text.contains(id))
            #expect(try seller.request("GET", "/api/v1/users/me/auctions").text.contains(id))
            expect(try ava.request("POST", path + "/share"), 403, "FORBIDDEN")
            let share = try seller.request("POST", path + "/share")
            expect(share, 200)
            let token = try #require(share.json["token"] as? String)
            func live(_ token: String?) throws -> HTTPReply {
                let query = token.map { "?token=\($0)" } ?? ""
                return try EventStreamClient(port: gateway.port, path: "/v1/auctions/\(id)/live\(query)")
                    .reply
            }
            #expect(try live(nil).status == 401)
            #expect(try live(ava.token).status == 403)
            #expect(try live(token).status == 200)
            expect(try nobody.request("GET", path, token: token), 403, "FORBIDDEN")
            let open = try seller.createAuction(Self.lot)
            expect(try seller.request("POST", "/api/v1/auctions/\(open)/share"), 400, "VALIDATION_ERROR")
        }
    }
}
