import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    @Suite(.serialized) struct FullPath {
        @Test("100 watchers see every one of 1,000 bids by 20 bidders, in order, once, as the table has them")
        func manyWatchers() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(
                #"{"title":"Full path","starting_price":10,"bid_increment":0.01,"duration_seconds":3600}"#)
            let ports = gateway.ports
            let apiPort = api.port
            let ready = Locked(0)

            // Watchers read until they have seen the bid that the bidders place last.
            let watching = Locked<[[String]]>([])
            let watchers = DispatchGroup()
            for _ in 0..<100 {
                watchers.enter()
                Thread {
                    defer { watchers.leave() }
                    do {
                        let watcher = try Watcher(ports, auctionID: auctionID)
                        _ = try watcher.next()
                        ready.with { $0 += 1 }
                        try watcher.until { ($0.json["current_price"] as? Double ?? 0) >= 1_000_000 }
                        try watcher.checkPromises()
                        watching.with { [bids = watcher.bids] in $0.append(bids) }
                    } catch {
                        Issue.record("a watcher failed: \(error)")
                    }
                }.start()
            }
            try eventually("all watch") { ready.with { $0 } == 100 }

            let accepted = Locked(0)
            _ = try together(20) { index in
                let bidder = try BidClient(port: apiPort, username: "bidder\(index)")
                var next = 10.0
                while accepted.with({ $0 }) < 1_000 {
                    let reply = try bidder.bid(String(format: "%.2f", next), on: auctionID)
                    switch reply.status {
                    case 201:
                        accepted.with { $0 += 1 }
                        next = (reply.json["new_current_price"] as? Double ?? next) + 0.01
                    case 409: next = (reply.json["minimum_bid"] as? Double ?? next) + 0.01
                    default: throw TimedOut(description: "a bid was answered \(reply.status) \(reply.text)")
                    }
                }
            }
            #expect(
                try BidClient(port: apiPort, username: "last").bid("1000000", on: auctionID).status == 201)
            watchers.wait()

            let rows = try PostgresConnection(url: database).query(
                "SELECT bid_id, seq, amount FROM bids WHERE auction_id = $1 ORDER BY seq", [auctionID])
            #expect(rows.count >= 1_001)
            let table = try (0..<rows.count).map {
                try "\(rows.text($0, 0)) \(rows.integer($0, 1)) \(rows.integer($0, 2))"
            }
            #expect(table.count == Set(table).count)
            let seen = watching.with { $0 }
            #expect(seen.count == 100)
            for bids in seen { #expect(bids == table) }
        }

        @Test("a late bid extends the auction, and its end comes from the database's clock to every watcher")
        func extensionAndEnd() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let api = try BidAPIProcess(
                database: database, redis: [redis.url],
                arguments: ["--snipe-window-seconds", "600", "--snipe-extension-seconds", "900"])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(
                #"{"title":"Short","starting_price":5,"bid_increment":1,"duration_seconds":600}"#)
            let watcher = try gateway.watch(auctionID)
            let snapshot = try watcher.next()
            #expect(snapshot.type == "SNAPSHOT" && snapshot.state?["status"] as? String == "active")
            let ava = try api.user("ava")
            #expect(try ava.bid("5.5", on: auctionID).status == 201)
            let bid = try watcher.next()
            let extended = try watcher.next()
            #expect(bid.type == "BID_UPDATE" && bid.json["current_price"] as? Double == 5.5)
            #expect(extended.type == "TIME_EXTENDED" && extended.sequence == bid.sequence + 1)
            #expect(extended.json["new_ends_at"] as? String == bid.json["ends_at"] as? String)
            try PostgresConnection(url: database).query("UPDATE auctions SET ends_at = clock_timestamp()")
            let ended = try watcher.next()
            #expect(ended.type == "AUCTION_ENDED" && ended.json["outcome"] as? String == "sold")
            #expect((ended.json["winner"] as? [String: Any])?["username"] as? String == "ava")
            #expect(ended.json["winning_bid"] as? Double == 5.5 && ended.json["total_bids"] as? Int == 1)
            try watcher.checkPromises()

            let late = try api.user("bruno").bid("9", on: auctionID)
            #expect(late.status == 410 && late.json["winner"] as? String == "ava")
            let after = try gateway.watch(auctionID).next()
            #expect(after.state?["status"] as? String == "sold" && after.sequence == ended.sequence)
        }

        @Test("two bid APIs on one database keep one order, and each auction ends once")
        func twoBidAPIs() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            // Bids come to the last moment; none may extend the end.
            let noExtension = ["--snipe-window-seconds", "0"]
            let one = try BidAPIProcess(database: database, redis: [redis.url], arguments: noExtension)
            let two = try BidAPIProcess(database: database, redis: [redis.url], arguments: noExtension)
            let gateway = try GatewayProcess(redis: [redis.url])
            let seller = try one.user("seller")
            let auctionID = try seller.createAuction(
                #"{"title":"Two","starting_price":1,"bid_increment":0.01,"duration_seconds":4}"#)
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            let ports = [one.port, two.port]
            _ = try together(6) { index in
                let bidder = try BidClient(port: ports[index % 2], username: "bidder\(index)")
                var amount = 1.0
                while true {
                    let reply = try bidder.bid(String(format: "%.2f", amount), on: auctionID)
                    if reply.status == 410 { return }
                    amount =
                        (reply.json["minimum_bid"] ?? reply.json["new_current_price"]) as? Double ?? amount
                }
            }
            let ended = try watcher.until { $0.type == "AUCTION_ENDED" }
            try watcher.checkPromises()
            let rows = try PostgresConnection(url: database).query(
                """
                SELECT count(*), count(DISTINCT seq), max(seq), bool_and(rising) FROM (
                    SELECT seq, amount > coalesce(lag(amount) OVER (ORDER BY seq), 0) AS rising
                    FROM bids WHERE auction_id = $1) b
                """, [auctionID])
            #expect(try rows.integer(0, 0) == rows.integer(0, 1) && rows.text(0, 3) == "t")
            #expect(try Int64(ended.sequence) == rows.integer(0, 2) + 1)
            #expect(try Int64(ended.json["total_bids"] as? Int ?? -1) == rows.integer(0, 0))
        }
    }
}
