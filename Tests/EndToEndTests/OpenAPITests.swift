import AuctionStore
import Foundation
import LoadClient
import LocalServers
import TestSupport
import Testing

extension EndToEndTests {
    /// That `/openapi.json` tells the truth. That it names every route, and no other, the bid API checks at
    /// start.
    @Suite(.serialized) struct Description {
        private static let base = "/api/v1"
        let api: BidAPIProcess
        let database: String
        let description: OpenAPIDescription
        let redis: RedisServer

        init() throws {
            redis = try RedisServer()
            database = try SharedPostgres.database()
            api = try BidAPIProcess(
                database: database, redis: [redis.url], arguments: ["--searches-per-minute", "0"])
            let reply = try HTTPClient(port: api.port).request("GET", "/openapi.json")
            #expect(reply.status == 200)
            description = OpenAPIDescription(reply.json)
        }

        @Test("every operation answers as described, when it goes well and when it does not")
        func answers() throws {
            let nobody = HTTPClient(port: api.port)
            let users = try ["ann", "ben", "sam"].map { try api.user($0) }
            let (ann, ben, seller) = (users[0], users[1], users[2])
            try PostgresConnection(url: database).query(
                "UPDATE users SET role = 'admin' WHERE username = 'ann'")
            var succeeded: Set<String> = []
            func check(
                _ method: String, _ path: String, _ id: String? = nil, as user: BidClient? = nil,
                json: String? = nil, query: String = "", gives status: Int,
                _ location: SourceLocation = #_sourceLocation
            ) throws {
                let template = path.hasPrefix("/") ? path : "\(Self.base)/\(path)"
                let address = template.replacing("{id}", with: id ?? "") + query
                let reply = try nobody.request(method, address, token: user?.token, json: json)
                let faults = description.faults(method, template, reply)
                #expect(
                    reply.status == status && faults.isEmpty, "\(method) \(address): \(faults) \(reply.text)",
                    sourceLocation: location)
                if reply.status < 300 { succeeded.insert("\(method) \(template)") }
                if method == "GET" { try check("HEAD", path, id, as: user, query: query, gives: status) }
            }
            let lot = #"{"title":"t","starting_price":10,"buy_now_price":90,"duration_seconds":600}"#
            let open = try seller.createAuction(lot)
            let bought = try seller.createAuction(lot)
            let hidden = try seller.createAuction(lot.dropLast() + #","visibility":"private"}"#)
            try check("GET", "/openapi.json", gives: 200)
            let eve = #"{"username":"eve","email":"e@x.example","password":"long enough"}"#
            try check("POST", "auth/register", json: eve, gives: 201)
            try check("POST", "auth/register", json: eve, gives: 409)
            try check("POST", "auth/register", json: "{}", gives: 400)
            try check("POST", "auth/login", json: eve, gives: 200)
            try check("POST", "auth/login", json: #"{"username":"eve","password":"wrong"}"#, gives: 401)
            try check("POST", "auctions", as: seller, json: lot, gives: 201)
            try check("POST", "auctions", as: seller, json: "{}", gives: 400)
            try check("POST", "auctions", json: lot, gives: 401)
            try check("GET", "auctions", query: "?q=t&sort=trending", gives: 200)
            try check("GET", "auctions", query: "?limit=0", gives: 400)
            try check("GET", "auctions/{id}", open, gives: 200)
            try check("GET", "auctions/{id}", "none", gives: 404)
            try check("GET", "auctions/{id}", hidden, gives: 401)
            try check("PUT", "auctions/{id}", open, as: seller, json: #"{"title":"new"}"#, gives: 200)
            try check("PUT", "auctions/{id}", open, as: ben, json: #"{"title":"new"}"#, gives: 403)
            let bids = "auctions/{id}/bids"
            try check("POST", bids, open, as: ben, json: #"{"amount":9}"#, gives: 409)
            try check("POST", bids, open, as: ben, json: #"{"amount":10,"max_amount":20}"#, gives: 201)
            try check("POST", bids, open, as: seller, json: #"{"amount":30}"#, gives: 403)
            try check("POST", "auctions/{id}/proxy", open, as: ann, json: #"{"max_amount":15}"#, gives: 201)
            try check("POST", "auctions/{id}/proxy", open, as: ann, json: #"{"max_amount":"x"}"#, gives: 400)
            try check("POST", "auctions/{id}/buy-now", bought, as: ann, gives: 201)
            try check("POST", "auctions/{id}/buy-now", bought, as: ben, gives: 410)
            try check("GET", bids, open, gives: 200)
            try check("PUT", "auctions/{id}", open, as: seller, json: #"{"title":"late"}"#, gives: 409)
            try check("DELETE", "auctions/{id}", open, as: seller, gives: 409)
            try check("POST", "auctions/{id}/share", hidden, as: seller, gives: 200)
            try check("POST", "auctions/{id}/share", hidden, as: ben, gives: 403)
            try check("DELETE", "auctions/{id}", hidden, as: seller, gives: 200)
            try check("POST", "users/me/watchlist/{id}", open, as: ben, gives: 201)
            for path in ["bids", "auctions", "watchlist", "notifications"] {
                try check("GET", "users/me/\(path)", as: path == "auctions" ? seller : ben, gives: 200)
                try check("GET", "users/me/\(path)", gives: 401)
                try check("GET", "users/me/\(path)", as: ben, query: "?cursor=-", gives: 400)
            }
            try check("DELETE", "users/me/watchlist/{id}", open, as: ben, gives: 204)
            let extend = #"{"action":"extend","seconds":5}"#
            try check("PUT", "admin/auctions/{id}", open, as: ann, json: extend, gives: 200)
            try check("PUT", "admin/auctions/{id}", open, as: ben, json: extend, gives: 403)
            try check("POST", "admin/users/{id}/ban", ben.userID, as: ann, gives: 200)
            try check("POST", "admin/users/{id}/ban", ben.userID, as: ben, gives: 403)
            try check("POST", bids, open, as: ben, json: #"{"amount":80}"#, gives: 403)
            try check("GET", "admin/audit", as: ann, gives: 200)
            #expect(description.operations.subtracting(succeeded).isEmpty)
        }

        @Test("other methods are 405 with Allow, other addresses 404")
        func otherMethods() throws {
            let http = HTTPClient(port: api.port)
            for (path, methods) in description.methods {
                for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] where !methods.contains(method) {
                    let reply = try http.request(method, path.replacing("{id}", with: "a1"))
                    #expect(reply.status == 405 && reply.fields["allow"] != nil, "\(method) \(path)")
                }
            }
            let reply = try http.request("GET", "/api/v2/auctions")
            #expect(reply.status == 404 && reply.json["error"] as? String == "NOT_FOUND")
            #expect(reply.fields["x-request-id"]?.isEmpty == false)
        }

        @Test("whatever is sent, the answer is one of those described, and never a 500")
        func noise() throws {
            var random = SeededGenerator.announced("OpenAPI noise")
            let user = try api.user("noise")
            try PostgresConnection(url: database).query("UPDATE users SET role = 'admin'")
            let id = try api.user("seller").createAuction(
                #"{"title":"t","starting_price":10,"duration_seconds":600}"#)
            let other = try api.user("other").userID
            let operations = description.operations.filter { !$0.contains("/auth/") }.sorted()
            for _ in 0..<600 {
                let operation = operations.randomElement(using: &random)!.split(separator: " ").map(
                    String.init)
                let (method, template) = (operation[0], operation[1])
                let malformed = ["%00", "%ff", "a%20b"]
                let inPath = ([id, other, "x"] + malformed).randomElement(using: &random)!
                var path = template.replacing("{id}", with: inPath)
                let isRead = method == "GET" || method == "HEAD"
                if isRead, Bool.random(using: &random) {
                    let name = ["limit", "cursor", "q", "sort", "status", "category"].randomElement(
                        using: &random)!
                    path += "?\(name)=\(Noise.queryValue(&random))"
                }
                let json = isRead ? nil : Noise.body(description.fields(method, template), &random)
                let reply = try user.request(method, path, json: json)
                let faults = description.faults(method, template, reply)
                // What is no address at all has no operation.
                #expect(
                    faults.isEmpty || (reply.status == 404 && path.contains("%")),
                    "\(method) \(path) \(json ?? ""): \(faults) \(reply.text)")
                #expect(reply.status != 500 && reply.json["error"] as? String != "BANNED")
            }
        }
    }
}

/// Values that a careless or hostile client sends.
private enum Noise {
    private static let values = [
        "null", "true", "0", "-1", "1", "10.5", "1e400", "1e-400", "123456789012345678901234567890", "0.001",
        "\"\"",
        #""x""#, #""\u0000""#, #""\ud800""#, #""'; DROP TABLE bids; --""#, "[]", "[[]]", "{}",
        #"{"a":1}"#, #""2030-01-01T00:00:00Z""#, #""cancel""#, #""extend""#, #""private""#,
        #"[{"from":0,"increment":1}]"#, #"["https://x.example/a.png"]"#,
    ]

    static func queryValue(_ random: inout SeededGenerator) -> String {
        [
            "", "0", "-1", "1", "100", "9223372036854775807", "9223372036854775808", "1.a", "-5.a", "%00",
            "%ff",
            "'", "\\", "%25", "a%26b%7C!", "newest", "trending", "sold", "%F0%9F%92%8E",
        ].randomElement(using: &random)!
    }

    static func body(_ fields: [String], _ random: inout SeededGenerator) -> String {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: return values.randomElement(using: &random)!
        case 1: return "{"
        default:
            let members = fields.filter { _ in Bool.random(using: &random) }.map {
                "\"\($0)\":\(values.randomElement(using: &random)!)"
            }
            return "{\(members.joined(separator: ","))}"
        }
    }
}
