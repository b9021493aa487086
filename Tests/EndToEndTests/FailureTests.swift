import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    @Suite(.serialized) struct Failures {
        private static let lot =
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#

        @Test("Redis killed and started again, empty: bids go on, watchers get what was committed meanwhile")
        func redisKilled() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let bidders = try [api.user("ava"), api.user("bruno")]
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            #expect(try bidders[0].bid("10", on: auctionID).status == 201)
            #expect(try watcher.next().sequence == 1)

            redis.kill()
            try eventually("the gateway says so") { try !gateway.isOK("/readyz") }
            #expect(try gateway.isOK("/healthz"))
            for (index, amount) in (11...15).enumerated() {
                #expect(try bidders[(index + 1) % 2].bid("\(amount)", on: auctionID).status == 201)
            }
            #expect(try api.isOK("/readyz"), "bids need no Redis")
            try redis.start()
            try watcher.until { $0.sequence == 6 }
            #expect(try bidders[0].bid("16", on: auctionID).status == 201)
            try watcher.until { $0.sequence == 7 }
            try watcher.checkPromises()
            try eventually("the gateway is ready again") { try gateway.isOK("/readyz") }

            let client = try redis.client()
            #expect(
                try client.call("XLEN", RedisKeys.log(auctionID)) == .integer(7), "the log was filled again")
            let late = try gateway.watch(auctionID).next()
            #expect(late.sequence == 7 && late.state?["current_price"] as? Double == 16)
            let losses = gateway.process.log.split(separator: "\n").filter {
                $0.contains("Redis link is down")
            }
            #expect(losses.count == 1, "said once, not at every attempt")
        }

        @Test("PostgreSQL killed and started again: bids get 503 meanwhile and none is half-done")
        func postgresKilled() throws {
            let postgres = try PostgresServer()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try postgres.database("killed"), redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let ava = try api.user("ava")
            let bruno = try api.user("bruno")
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            #expect(try ava.bid("10", on: auctionID).status == 201)

            postgres.kill()
            let refused = try bruno.bid("11", on: auctionID)
            #expect(refused.status == 503 && refused.json["error"] as? String == "BUSY")
            #expect(try !api.isOK("/readyz") && api.isOK("/healthz"))
            #expect(try gateway.isOK("/readyz"), "watching needs no PostgreSQL")
            #expect(try gateway.watch(auctionID).next().sequence == 1)

            try postgres.start()
            try eventually("the bid API is ready again") { try api.isOK("/readyz") }
            #expect(try bruno.bid("12", on: auctionID).status == 201)
            let history = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(auctionID)/bids")
            #expect(history.json["total"] as? Int == 2)
            try watcher.until { $0.sequence == 2 }
            try watcher.checkPromises()
        }

        @Test("both down at the start: the services stay up, say so, and serve when the others come")
        func downAtStart() throws {
            let postgres = try PostgresServer()
            let database = try postgres.database("late")
            postgres.kill()
            let redis = try RedisServer()
            redis.kill()
            let api = try BidAPIProcess(database: database, redis: [redis.url], waitsUntilReady: false)
            let gateway = try GatewayProcess(redis: [redis.url], waitsUntilReady: false)
            #expect(try !api.isOK("/readyz") && !gateway.isOK("/readyz"))
            let early = try gateway.watch("auc_unknown")
            let list = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions")
            #expect(list.status == 503 && list.fields["retry-after"] != nil)

            try redis.start()
            #expect(try early.next().type == "SNAPSHOT", "accepted, kept, and answered when Redis came")
            try postgres.start()
            try eventually("both are ready") { try api.isOK("/readyz") && gateway.isOK("/readyz") }
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let watcher = try gateway.watch(auctionID)
            #expect(try watcher.next().type == "SNAPSHOT")
            #expect(try api.user("ava").bid("10", on: auctionID).status == 201)
            #expect(try watcher.next().sequence == 1)
        }

        @Test("a Redis that is paused while its connections stay open is noticed and left")
        func redisPaused() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            redis.signal(SIGSTOP)
            try eventually("the probe is missed") { try !gateway.isOK("/readyz") }
            redis.signal(SIGCONT)
            try eventually("the link is made anew") { try gateway.isOK("/readyz") }
            try eventually("the auction is subscribed again") {
                try redis.client().call("PUBSUB", "NUMSUB", "auction:a1").array?[1] == .integer(1)
            }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
        }

        @Test(
            "PostgreSQL hangs: bids get 503, readiness fails, everything resumes when it recovers, and drains end"
        )
        func postgresPaused() throws {
            let postgres = try PostgresServer()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try postgres.database("paused"), redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let ava = try api.user("ava")
            #expect(try ava.bid("10", on: auctionID).status == 201)
            postgres.signal(SIGSTOP)
            defer { postgres.signal(SIGCONT) }
            try eventually("readiness tells") { try !api.isOK("/readyz") }
            #expect(try api.isOK("/healthz"))
            let patient = HTTPClient(port: api.port, timeoutMilliseconds: 60_000)
            let refused = try patient.request(
                "POST", "/api/v1/auctions/\(auctionID)/bids", token: ava.token, json: #"{"amount":11}"#)
            #expect(refused.status == 503 && refused.json["error"] as? String == "BUSY")
            postgres.signal(SIGCONT)
            try eventually("the bid API is ready again") { try api.isOK("/readyz") }
            #expect(try api.user("ben").bid("12", on: auctionID).status == 201)
            let history = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(auctionID)/bids")
            #expect(history.json["total"] as? Int == 2)
            postgres.signal(SIGSTOP)
            api.process.kill(SIGTERM)
            #expect(api.process.waitForExit() == 0, "\(api.process.log)")
        }

        @Test(
            "Redis loses its data while nobody bids: states and logs are there again",
            arguments: [true, false])
        func redisEmptied(byRestart: Bool) throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            #expect(try api.user("ava").bid("10", on: auctionID).status == 201)
            try eventually("the bid is published") {
                try redis.client().call("XLEN", RedisKeys.log(auctionID)) == .integer(1)
            }
            if byRestart {
                redis.kill()
                try redis.start()
            } else {
                _ = try redis.client().call("FLUSHALL")
            }
            let client = try redis.client()
            try eventually("the log is there") {
                try client.call("XLEN", RedisKeys.log(auctionID)) == .integer(1)
            }
            #expect(try client.call("EXISTS", RedisKeys.state(auctionID)) == .integer(1))
        }

        @Test(
            "an auction whose keys Redis refuses is logged once, delays no other, and goes on once it is repaired"
        )
        func refusedAuction() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let seller = try api.user("seller")
            let (bad, good) = (try seller.createAuction(Self.lot), try seller.createAuction(Self.lot))
            let client = try redis.client()
            _ = try client.call("SET", RedisKeys.log(bad), "not a stream")
            let ava = try api.user("ava")
            #expect(try ava.bid("10", on: bad).status == 201)
            try eventually("Redis has refused it") {
                try api.metric("gavelcast_relay_redis_failures_total") == 1
            }
            for amount in 10..<30 {
                #expect(try api.user("user\(amount)").bid("\(amount)", on: good).status == 201)
            }
            try eventually("the other is published") {
                try client.call("XLEN", RedisKeys.log(good)) == .integer(20)
            }
            _ = try client.call("DEL", RedisKeys.log(bad))
            try eventually("it is published too") {
                try client.call("XLEN", RedisKeys.log(bad)) == .integer(1)
            }
            let lines = api.process.log.split(separator: "\n").filter {
                $0.contains("Redis refuses an auction")
            }
            #expect(lines.count == 1 && lines[0].contains(bad), "\(lines)")
            #expect(!api.process.log.contains("lost Redis"))
        }

        @Test("a Redis that takes no writes is logged once, and everything arrives when it recovers")
        func redisReadOnly() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let auctionID = try api.user("seller").createAuction(Self.lot)
            let client = try redis.client()
            _ = try client.call("CONFIG", "SET", "maxmemory", "1")
            for (index, name) in ["ava", "ben", "chen"].enumerated() {
                #expect(try api.user(name).bid("\(10 + index)", on: auctionID).status == 201)
            }
            try eventually("it is said") { api.process.log.contains("the relay lost Redis") }
            let failures = try api.metric("gavelcast_relay_redis_failures_total")
            try eventually("it was tried again") {
                try api.metric("gavelcast_relay_redis_failures_total") > failures + 3
            }
            _ = try client.call("CONFIG", "SET", "maxmemory", "0")
            try eventually("all is published") {
                try client.call("XLEN", RedisKeys.log(auctionID)) == .integer(3)
            }
            let losses = api.process.log.split(separator: "\n").filter { $0.contains("the relay lost Redis") }
            #expect(losses.count == 1, "\(losses)")
        }

        @Test("the gateway serves a new auction as soon as its creation is answered")
        func watchedAtOnce() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let seller = try api.user("seller")
            for round in 0..<20 {
                let auctionID = try seller.createAuction(Self.lot)
                let snapshot = try gateway.watch(auctionID).next()
                #expect(snapshot.state?["status"] as? String == "active", "round \(round)")
            }
        }

        @Test("a Redis given by host name is found, and found again after a restart")
        func redisByName() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: ["redis://localhost:\(redis.port)"])
            let watcher = try gateway.watch("a1")
            _ = try watcher.next()
            redis.kill()
            try eventually("the gateway says so") { try !gateway.isOK("/readyz") }
            try redis.start()
            try eventually("the gateway is ready again") { try gateway.isOK("/readyz") }
            try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
            #expect(try watcher.next().sequence == 1)
        }

        @Test("a bid API that is killed after a commit leaves the event to the next one")
        func bidAPIKilled() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            var api: BidAPIProcess? = try BidAPIProcess(database: database, redis: [redis.url])
            let auctionID = try #require(try api?.user("seller").createAuction(Self.lot))
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            // While Redis is paused the relay cannot publish, but bids commit.
            redis.signal(SIGSTOP)
            #expect(try api?.user("ava").bid("10", on: auctionID).status == 201)
            api?.process.kill(SIGKILL)
            api?.process.waitForExit()
            api = nil
            redis.signal(SIGCONT)
            let next = try BidAPIProcess(database: database, redis: [redis.url])
            #expect(try watcher.until { $0.sequence == 1 }.type == "BID_UPDATE")
            #expect(try next.user("bruno").bid("11", on: auctionID).status == 201)
            try watcher.until { $0.sequence == 2 }
            try watcher.checkPromises()
        }
    }
}
