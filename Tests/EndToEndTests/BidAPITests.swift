import AuctionStore
import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    @Suite(.serialized) struct BidAPI {
        private static let lot =
            #"{"title":"Lot","starting_price":10.00,"bid_increment":0.50,"duration_seconds":3600}"#

        @Test("bids are refused by the rules, each with its status, and answered as the contract says")
        func bids() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let seller = try api.user("seller")
            let ava = try api.user("ava")
            let bruno = try api.user("bruno")
            let id = try seller.createAuction(Self.lot)
            func expect(_ reply: HTTPReply, _ status: Int, _ error: String? = nil) {
                #expect(reply.status == status && reply.json["error"] as? String == error, "\(reply.text)")
            }
            expect(try ava.bid("9.99", on: id), 409, "BID_TOO_LOW")
            let first = try ava.bid("10", on: id)
            expect(first, 201)
            #expect(
                first.json["status"] as? String == "ACCEPTED"
                    && first.json["is_highest_bidder"] as? Bool == true)
            #expect(first.text.contains(#""amount":10,"new_current_price":10,"your_rank":1"#))
            expect(try ava.bid("11", on: id), 409, "ALREADY_HIGHEST")
            let low = try bruno.bid("10.49", on: id)
            expect(low, 409, "BID_TOO_LOW")
            #expect(low.json["minimum_bid"] as? Double == 10.5 && low.json["current_price"] as? Double == 10)
            expect(try bruno.bid("10.50", on: id), 201)
            expect(try seller.bid("100", on: id), 403, "SELF_BID")
            expect(try ava.bid("100", on: "auc_nothing"), 404, "NOT_FOUND")
            for amount in ["0", "-1", "10.501", "\"11\"", "null", "999999999999999", "{}"] {
                expect(try ava.bid(amount, on: id), 400, "VALIDATION_ERROR")
            }
            let http = HTTPClient(port: api.port)
            expect(
                try http.request("POST", "/api/v1/auctions/\(id)/bids", json: #"{"amount":20}"#), 401,
                "UNAUTHORIZED")
            expect(
                try http.request(
                    "POST", "/api/v1/auctions/\(id)/bids", token: "x.y.z", json: #"{"amount":20}"#), 401,
                "UNAUTHORIZED")
            expect(
                try http.request("POST", "/api/v1/auctions/\(id)/bids", token: ava.token, json: "{"), 400,
                "VALIDATION_ERROR")

            let history = try http.request("GET", "/api/v1/auctions/\(id)/bids?limit=1")
            #expect(history.json["total"] as? Int == 2 && history.json["next_cursor"] as? String == "2")
            #expect(history.text.contains(#""bidder":"bruno","amount":10.50"#))
            let rest = try http.request("GET", "/api/v1/auctions/\(id)/bids?cursor=2")
            #expect((rest.json["bids"] as? [Any])?.count == 1 && rest.json["next_cursor"] is NSNull)
        }

        @Test("registering and signing in")
        func users() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let http = HTTPClient(port: api.port)
            func register(_ name: String, _ email: String, _ password: String) throws -> Int {
                try http.request(
                    "POST", "/api/v1/auth/register",
                    json: #"{"username":"\#(name)","email":"\#(email)","password":"\#(password)"}"#
                ).status
            }
            #expect(try register("Ava", "ava@example.com", "correct horse") == 201)
            #expect(
                try register("ava", "other@example.com", "correct horse") == 409,
                "the name is taken, whatever its case")
            #expect(try register("other", "AVA@example.com", "correct horse") == 409)
            #expect(try register("x", "x@example.com", "correct horse") == 400)
            #expect(try register("bruno", "no address", "correct horse") == 400)
            #expect(try register("bruno", "b@example.com", "short") == 400)
            for login in [#""username":"ava""#, #""email":"ava@example.com""#] {
                let reply = try http.request(
                    "POST", "/api/v1/auth/login", json: "{\(login),\"password\":\"correct horse\"}")
                #expect(reply.status == 200 && reply.json["username"] as? String == "Ava")
            }
            for body in [
                #"{"username":"ava","password":"wrong"}"#,
                #"{"username":"nobody","password":"correct horse"}"#,
            ] {
                #expect(try http.request("POST", "/api/v1/auth/login", json: body).status == 401)
            }
        }

        @Test("auctions are created, checked, listed by pages, and start by the database's clock")
        func auctions() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let seller = try api.user("seller")
            let http = HTTPClient(port: api.port)
            for (member, name) in [
                (#""title":"""#, "title"), (#""starting_price":0"#, "starting_price"),
                (#""starting_price":1.001"#, "starting_price"), (#""currency":"usd""#, "currency"),
                (#""bid_increment":0"#, "bid_increment"), (#""reserve_price":1"#, "reserve_price"),
                (#""increment_table":[]"#, "increment"), (#""duration_seconds":0"#, "duration_seconds"),
                (#""ends_at":"tomorrow""#, "ends_at"), (#""starts_at":"2020-01-01T00:00:00Z""#, "starts_at"),
                (#""image_urls":["javascript:x"]"#, "image_urls"),
            ] {
                let key = member.split(separator: ":")[0]
                let base = [#""title":"t""#, #""starting_price":10"#, #""duration_seconds":60"#].filter {
                    !$0.hasPrefix(key) && !(key == #""ends_at""# && $0.hasPrefix(#""duration"#))
                }
                let reply = try http.request(
                    "POST", "/api/v1/auctions", token: seller.token,
                    json: "{\((base + [member]).joined(separator: ","))}")
                #expect(reply.status == 400 && reply.text.contains(name), "\(member): \(reply.text)")
            }

            let soon = Date.now.addingTimeInterval(4).formatted(.iso8601)
            let id = try seller.createAuction(
                #"{"title":"Later","starting_price":10,"starts_at":"\#(soon)","duration_seconds":60}"#)
            let watcher = try gateway.watch(id)
            #expect(try watcher.next().state?["status"] as? String == "scheduled")
            #expect(try api.user("ava").bid("10", on: id).json["error"] as? String == "NOT_STARTED")
            let started = try watcher.next()
            #expect(started.type == "AUCTION_STARTED" && started.state?["status"] as? String == "active")

            for number in 0..<4 {
                _ = try seller.createAuction(
                    #"{"title":"Lot \#(number)","starting_price":1,"duration_seconds":600}"#)
            }
            var titles: [String] = []
            var cursor: String? = ""
            while let at = cursor {
                let page = try http.request("GET", "/api/v1/auctions?sort=newest&limit=2&cursor=\(at)").json
                titles += (page["auctions"] as? [[String: Any]] ?? []).compactMap { $0["title"] as? String }
                cursor = page["next_cursor"] as? String
            }
            #expect(titles == ["Lot 3", "Lot 2", "Lot 1", "Lot 0", "Later"])
            #expect(
                (try http.request("GET", "/api/v1/auctions?q=LOT").json["auctions"] as? [Any])?.count == 4)
        }

        @Test("500 auctions that end in the same second end once each, with one event each")
        func manyEnds() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let apis = try (0..<2).map { _ in try BidAPIProcess(database: database, redis: [redis.url]) }
            _ = try apis[0].user("seller")
            let connection = try PostgresConnection(url: database)
            try connection.script(
                """
                INSERT INTO auctions (auction_id, seller_id, title, description, category, currency, image_urls,
                    starting_price, increments, starts_at, ends_at, status, current_price, state)
                SELECT 'auc_' || n, (SELECT user_id FROM users LIMIT 1), 't', '', '', 'USD', '{}', 100, '0:100', now(),
                    now() + interval '1 second', 'active', 100, '{}' FROM generate_series(1, 500) n
                """)
            try eventually("all have ended") {
                try connection.query("SELECT count(*) FROM auctions WHERE status = 'active'").integer(0, 0)
                    == 0
            }
            let rows = try connection.query(
                "SELECT count(*), max(seq), min(seq) FROM outbox WHERE auction_id LIKE 'auc_%'")
            #expect(try rows.integer(0, 0) == 500 && rows.integer(0, 1) == 1 && rows.integer(0, 2) == 1)
            try eventually("all are published") {
                try connection.query("SELECT count(*) FROM outbox WHERE published_at IS NULL").integer(0, 0)
                    == 0
            }
        }

        @Test("limits answer 429 with when to come back")
        func limits() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url],
                arguments: ["--bids-per-minute", "2", "--auctions-per-hour", "1"])
            let seller = try api.user("seller")
            let id = try seller.createAuction(Self.lot)
            let ava = try api.user("ava")
            let replies = try (0..<3).map { _ in try ava.bid("10", on: id) }
            #expect(replies.map(\.status) == [201, 409, 429])
            #expect(replies[2].fields["retry-after"].flatMap { Int($0) } ?? 0 > 0)
            #expect(
                try HTTPClient(port: api.port)
                    .request("POST", "/api/v1/auctions", token: seller.token, json: Self.lot).status == 429)
        }

        @Test("a locked auction row delays the bids on that auction and no others")
        func heldRow() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let seller = try api.user("seller")
            let held = try seller.createAuction(Self.lot)
            let others = try (0..<20).map { _ in try seller.createAuction(Self.lot) }
            let token = try api.user("ava").token
            let port = api.port
            let bid = { @Sendable (auction: String) throws -> HTTPReply in
                try HTTPClient(port: port).request(
                    "POST", "/api/v1/auctions/\(auction)/bids", token: token,
                    fields: ["Idempotency-Key": "key-\(auction)"], json: #"{"amount":10}"#)
            }
            let holder = try PostgresConnection(url: database)
            try holder.query("BEGIN")
            try holder.query("SELECT 1 FROM auctions WHERE auction_id = $1 FOR UPDATE", [held])
            let waiting = Locked<Int?>(nil)
            let group = DispatchGroup()
            group.enter()
            Thread.detachNewThread {
                let status = (try? bid(held))?.status ?? 0
                waiting.with { $0 = status }
                group.leave()
            }
            // One goes alone and waits for the row; these come behind it, many at once.
            let observer = try PostgresConnection(url: database)
            try eventually("the first bid waits for the row") {
                try !observer.query(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%'"
                ).isEmpty
            }
            #expect(try together(20) { try bid(others[$0]).status } == [Int](repeating: 201, count: 20))
            #expect(waiting.with { $0 } == nil)
            try holder.query("COMMIT")
            group.wait()
            #expect(waiting.with { $0 } == 201)
            #expect(try bid(held).status == 200, "its key was kept")
        }

        @Test("limits count for all bid APIs together, and hold up nobody while Redis is away")
        func sharedLimits() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let keys = try BidAPIProcess.sharedTokenKeys()
            let apis = try (0..<2).map { _ in
                try BidAPIProcess(
                    database: database, redis: [redis.url],
                    arguments: [
                        "--bids-per-minute", "2", "--searches-per-minute", "1", "--token-keys", keys,
                        "--trusted-proxies", "127.0.0.0/8",
                    ])
            }
            let id = try apis[0].user("seller").createAuction(Self.lot)
            let ava = try apis[0].user("ava")
            func bid(_ api: BidAPIProcess) throws -> Int {
                try HTTPClient(port: api.port).request(
                    "POST", "/api/v1/auctions/\(id)/bids", token: ava.token, json: #"{"amount":10}"#
                ).status
            }
            #expect(try [0, 1, 0, 1].map { try bid(apis[$0]) } == [201, 409, 429, 429])
            func search(_ query: String, from client: String) throws -> Int {
                try HTTPClient(port: apis[0].port).request(
                    "GET", "/api/v1/auctions?\(query)", fields: ["X-Forwarded-For": client]
                ).status
            }
            #expect(try search("q=lot", from: "192.0.2.1") == 200)
            #expect(try search("q=lot", from: "192.0.2.1") == 429)
            #expect(try search("sort=newest", from: "192.0.2.1") == 200, "a list is no search")
            #expect(try search("q=lot", from: "192.0.2.2") == 200)
            redis.kill()
            #expect(try (0..<3).map { _ in try bid(apis[1]) } == [409, 409, 409])
            #expect(try apis[1].metric("gavelcast_limits_uncounted_total") == 3)
            #expect(try apis[1].metric(#"gavelcast_bids_total{result="rate_limited"}"#) == 1)
            #expect(try apis[1].metric(#"gavelcast_bids_total{result="already_highest"}"#) == 4)
        }

        @Test("SIGHUP reads limits and origins anew; what is wrong changes nothing")
        func reload() throws {
            let redis = try RedisServer()
            let file = Guardian.shared.folder + "/\(UUID().uuidString).yml"
            func write(_ text: String) throws {
                try text.write(toFile: file, atomically: true, encoding: .utf8)
            }
            try write("origins: [\"http://page:1\"]\nbids-per-minute: 0\n")
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url], arguments: ["--config", file],
                setsLimits: false)
            let http = HTTPClient(port: api.port)
            func allows(_ origin: String) throws -> Bool {
                try http.request("GET", "/openapi.json", fields: ["Origin": origin])
                    .fields["access-control-allow-origin"] == origin
            }
            #expect(try allows("http://page:1") && !allows("http://page:2"))
            try write("bids-per-minute: many\n")
            api.process.kill(SIGHUP)
            try eventually("the refusal is logged") { api.process.log.contains("settings were not reloaded") }
            #expect(try allows("http://page:1"))
            try write("origins: [\"http://page:2\"]\nbids-per-minute: 1\n")
            api.process.kill(SIGHUP)
            try eventually("the new origin may call") { try allows("http://page:2") }
            #expect(try !allows("http://page:1"))
            let id = try api.user("seller").createAuction(Self.lot)
            let ava = try api.user("ava")
            #expect(try [ava.bid("10", on: id).status, ava.bid("11", on: id).status] == [201, 429])
        }

        @Test("pages of allowed origins may call, others get no permission")
        func crossOrigin() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url],
                arguments: ["--origins", "http://page:1"])
            let http = HTTPClient(port: api.port)
            let preflight = ["Origin": "http://page:1", "Access-Control-Request-Method": "POST"]
            let allowed = try http.request("OPTIONS", "/api/v1/auctions", fields: preflight)
            #expect(allowed.status == 204 && allowed.fields["access-control-allow-origin"] == "http://page:1")
            let missing = try http.request(
                "GET", "/api/v1/auctions/none", fields: ["Origin": "http://page:1"])
            #expect(missing.status == 404 && missing.fields["access-control-allow-origin"] == "http://page:1")
            let other = try http.request("GET", "/api/v1/auctions", fields: ["Origin": "http://evil"])
            #expect(other.fields["access-control-allow-origin"] == nil)
        }

        @Test("SIGTERM exits 0 and leaves nothing unpublished")
        func drain() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let id = try api.user("seller").createAuction(Self.lot)
            let tokens = try (0..<8).map { try api.user("bidder\($0)").token }
            let port = api.port
            let accepted = Locked(0)
            let process = api.process
            let pid = process.pid
            _ = try together(9) { index in
                guard index < 8 else {
                    // In the middle of it.
                    try eventually("bids come in") { accepted.with { $0 } > 50 }
                    kill(pid, SIGTERM)
                    return
                }
                for round in 0... {
                    let reply = try? HTTPClient(port: port).request(
                        "POST", "/api/v1/auctions/\(id)/bids", token: tokens[index],
                        json: #"{"amount":\#(10 + round * 8 + index)}"#)
                    guard let reply, reply.status != 503 else { return }
                    if reply.status == 201 { accepted.with { $0 += 1 } }
                }
            }
            #expect(process.waitForExit() == 0, "\(process.log)")
            let connection = try PostgresConnection(url: database)
            let bids = try connection.query("SELECT count(*) FROM bids").integer(0, 0)
            #expect(bids >= accepted.with { Int64($0) })
            #expect(try redis.client().call("XLEN", RedisKeys.log(id)) == .integer(bids))
            #expect(try connection.query("SELECT 1 FROM outbox WHERE published_at IS NULL").isEmpty)
        }
    }

    @Suite struct CommandLine {
        private func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
            let process = try ChildProcess("command", [Programs.path(program)] + arguments)
            let status = process.waitForExit()
            return (status, process.log)
        }

        @Test(
            "--help, --version and --check-config answer and exit 0",
            arguments: ["gavelcast-gateway", "gavelcast-bidapi"])
        func answers(program: String) throws {
            for (argument, text) in [
                ("--help", "USAGE"), ("--version", program), ("--check-config", "valid"),
            ] {
                let (status, output) = try run(program, [argument])
                #expect(status == 0 && output.contains(text))
            }
        }

        @Test(
            "a mistake prints one line and exits with the right status",
            arguments: ["gavelcast-gateway", "gavelcast-bidapi"])
        func mistakes(program: String) throws {
            let file = Guardian.shared.folder + "/\(UUID().uuidString).yml"
            try "no-such-key: 1\n".write(toFile: file, atomically: true, encoding: .utf8)
            for (arguments, status, name) in [
                (["--no-such-flag", "1"], Int32(64), "no-such-flag"), (["--listen", "x"], 64, "listen"),
                (["--config", "/gone.yml"], 78, "/gone.yml"), (["--config", file], 78, "no-such-key"),
                (["--redis-url", "http://x"], 78, "redis-url"),
            ] {
                let result = try run(program, arguments)
                #expect(result.status == status && result.output.contains(name), "\(result)")
                #expect(result.output.split(separator: "\n").count == 1, "\(result.output)")
            }
        }

        @Test(
            "a port in use is one line that names it", arguments: ["gavelcast-gateway", "gavelcast-bidapi"])
        func busyPort(program: String) throws {
            let redis = try RedisServer()
            let result = try run(
                program, ["--listen", "127.0.0.1:\(redis.port)", "--admin-listen", "127.0.0.1:0"])
            #expect(result.status == 71 && result.output.contains("\(redis.port)"), "\(result)")
        }
    }
}
