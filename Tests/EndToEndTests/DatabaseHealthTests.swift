import AuctionEvents
import AuctionStore
import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// A PostgreSQL that changes under the bid API: it takes no writes any longer, or holds rows of a newer
    /// version.
    @Suite(.serialized) struct DatabaseHealth {
        private static let lot =
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#

        @Test(
            "the first of two servers becomes read-only and the second is promoted: no bid is lost or refused"
        )
        func failover() throws {
            let first = try PostgresServer()
            let name = try first.database("failover").split(separator: "/").last ?? ""
            let second = try PostgresServer(standbyOf: first)
            let redis = try RedisServer()
            let url = "postgresql://gavelcast@127.0.0.1:\(first.port),127.0.0.1:\(second.port)/\(name)"
            let api = try BidAPIProcess(database: url, redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let bidders = try [api.user("ava"), api.user("bruno")]
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            #expect(try bidders[0].bid("10", on: auctionID).status == 201)

            let old = try PostgresConnection(url: first.readingURL("postgres"))
            try old.script("ALTER SYSTEM SET default_transaction_read_only = on")
            try old.script("SELECT pg_reload_conf()")
            let standby = try PostgresConnection(url: second.readingURL("postgres"))
            try eventually("the standby has everything") {
                let end = try old.query("SELECT pg_current_wal_lsn()::text").text(0, 0)
                return try standby.query("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", [end]).text(
                    0, 0)
                    == "t"
            }
            try second.promote()
            try eventually("the standby is promoted") {
                try standby.query("SELECT pg_is_in_recovery()").text(0, 0) == "f"
            }
            let statuses = try (11...25).map { try bidders[$0 % 2].bid("\($0)", on: auctionID).status }
            #expect(statuses == Array(repeating: 201, count: 15))
            #expect(
                try watcher.until { $0.sequence == 16 }.type == "BID_UPDATE", "the relay reads the new one")
            try watcher.checkPromises()
            #expect(try api.isOK("/readyz"))
        }

        @Test("ready means writable, on a single server too; both turns are noticed")
        func readOnly() throws {
            let postgres = try PostgresServer()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try postgres.database("readonly"), redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let ava = try api.user("ava")
            let admin = try PostgresConnection(url: postgres.readingURL("postgres"))
            try admin.script("ALTER SYSTEM SET default_transaction_read_only = on")
            try admin.script("SELECT pg_reload_conf()")
            try eventually("it is not ready") { try !api.isOK("/readyz") }
            #expect(try ava.bid("10", on: auctionID).status == 503)
            try admin.script("SET default_transaction_read_only = off")
            try admin.script("ALTER SYSTEM RESET default_transaction_read_only")
            try admin.script("SELECT pg_reload_conf()")
            try eventually("it is ready") { try api.isOK("/readyz") }
            #expect(try ava.bid("10", on: auctionID).status == 201)
        }

        @Test("rows that a newer version has written are left out, logged once and counted; nothing traps")
        func newerRows() throws {
            let redis = try RedisServer()
            let database = try SharedPostgres.database()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--token-keys", try BidAPIProcess.sharedTokenKeys()])
            let (seller, ava, ben) = (try api.user("seller"), try api.user("ava"), try api.user("ben"))
            let lots = try (0..<3).map { _ in try seller.createAuction(Self.lot) }
            let connection = try PostgresConnection(url: database)
            try connection.script("ALTER TABLE notifications DROP CONSTRAINT notifications_type_check")
            for _ in 0..<3 {
                try connection.query(
                    "INSERT INTO notifications (user_id, type, auction_id) VALUES ($1, 'ENDING_SOON', $2)",
                    [ava.userID, lots[0]])
            }
            #expect(try ava.bid("10", on: lots[0]).status == 201 && ben.bid("11", on: lots[0]).status == 201)
            try eventually("the notification of a known type is pushed") {
                try connection.query(
                    "SELECT 1 FROM notifications WHERE type = 'OUTBID' AND pushed_at IS NOT NULL"
                ).count == 1
            }
            let unknown = try connection.query(
                "SELECT 1 FROM notifications WHERE pushed_at IS NOT NULL AND type = 'ENDING_SOON'")
            #expect(unknown.isEmpty, "an unknown type is left to the version that knows it")
            let page = try ava.request("GET", "/api/v1/users/me/notifications")
            let types = (page.json["notifications"] as? [[String: Any]] ?? []).compactMap {
                $0["type"] as? String
            }
            #expect(page.status == 200 && types == ["OUTBID"])
            let first = try ava.request("GET", "/api/v1/users/me/notifications?limit=2")
            #expect(first.json["next_cursor"] is String, "what is left out does not end the list")
            // An auction in a state that this version does not know.
            for row in try connection.query(
                """
                SELECT conname FROM pg_constraint WHERE conrelid = 'auctions'::regclass AND contype = 'c'
                    AND pg_get_constraintdef(oid) LIKE '%status%'
                """
            ).texts { try connection.script("ALTER TABLE auctions DROP CONSTRAINT \(row)") }
            try connection.query("UPDATE auctions SET status = 'paused' WHERE auction_id = $1", [lots[1]])
            let one = try ava.request("GET", "/api/v1/auctions/\(lots[1])")
            #expect(one.status == 503 && one.json["error"] as? String == "BUSY")
            #expect(try ava.bid("10", on: lots[1]).status == 503)
            let list = try ava.request("GET", "/api/v1/auctions?sort=newest")
            #expect((list.json["auctions"] as? [[String: Any]])?.count == 2)
            #expect(try ava.bid("10", on: lots[2]).status == 201, "others are bid on")
            #expect(try gateway.watch(lots[2]).next().type == "SNAPSHOT")
            #expect(try api.metric("gavelcast_rows_unreadable_total") >= 4)
            let lines = api.process.log.split(separator: "\n").filter { $0.contains("ENDING_SOON") }
            #expect(lines.count == 1, "\(lines)")
            #expect(api.process.isRunning)
        }

        @Test("numbers of viewers that nobody can have written trap nothing")
        func nonsenseInRedis() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--viewers-seconds", "1"])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            let client = try redis.client()
            let key = RedisKeys.viewers(auctionID)
            for (field, value) in [
                ("a", "9223372036854775807:9223372036854775807"),
                ("b", "9223372036854775807:9223372036854775807"),
                ("c", "-5:-9223372036854775808"), ("d", "x"), ("e", "1:-9223372036854775808"),
            ] { _ = try client.call("HSET", key, field, value) }
            let reply = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(auctionID)")
            #expect(reply.status == 200 && reply.json["viewer_count"] != nil)
            _ = try client.call("SET", RedisKeys.viewers("other"), "no hash")
            let other = try gateway.watch("other")
            _ = try other.next()
            try watcher.until { $0.type == "VIEWERS" }
            #expect(try gateway.isOK("/readyz") && api.isOK("/readyz"))
        }
    }
}

extension Rows {
    /// The first column.
    fileprivate var texts: [String] { (0..<count).map { text($0, 0) } }
}
