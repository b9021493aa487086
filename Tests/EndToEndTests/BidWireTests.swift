import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// The bid API's HTTP and JSON, to the letter.
    @Suite(.serialized) struct BidWire {
        let api: BidAPIProcess
        let redis: RedisServer

        init() throws {
            redis = try RedisServer()
            api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
        }

        private func lot(_ members: String = "") -> String {
            #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600\#(members)}"#
        }

        @Test("HEAD is answered as GET is, without the body, on every address; the connection goes on")
        func head() throws {
            let user = try api.user("ava")
            let id = try user.createAuction(lot())
            let client = HTTPClient(port: api.port)
            for path in [
                "/api/v1/auctions", "/api/v1/auctions/\(id)", "/api/v1/auctions/\(id)/bids", "/openapi.json",
                "/api/v1/users/me/bids", "/api/v1/auctions/unknown", "/nowhere", "/api/v1/auctions?limit=x",
            ] {
                let get = try client.request("GET", path, token: user.token)
                let socket = try BlockingSocket(port: api.port)
                let line = "HEAD \(path) HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \(user.token)\r\n"
                try socket.send(Array((line + "\r\n" + line + "Connection: close\r\n\r\n").utf8))
                var received: [UInt8] = []
                while let bytes = try socket.receive(milliseconds: 5_000), !bytes.isEmpty {
                    received += bytes
                }
                // Two answers and nothing between them or behind.
                let parts = String(decoding: received, as: UTF8.self).components(separatedBy: "\r\n\r\n")
                #expect(parts.count == 3 && parts[2].isEmpty, "\(path): \(parts.count)")
                for part in parts.dropLast() {
                    #expect(
                        part.hasPrefix("HTTP/1.1 \(get.status)")
                            && part.contains("Content-Length: \(get.body.count)"))
                }
            }
            let admin = try HTTPClient(port: api.adminPort).request("HEAD", "/readyz")
            #expect(admin.status == 200 && admin.body.isEmpty)
        }

        @Test("a client that waits for 100 Continue before it sends its body gets it")
        func expectContinue() throws {
            let user = try api.user("ava")
            let socket = try BlockingSocket(port: api.port)
            let body = lot()
            try socket.send(
                Array(
                    ("POST /api/v1/auctions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \(user.token)\r\n"
                        + "Content-Length: \(body.utf8.count)\r\nExpect: 100-continue\r\n\r\n").utf8))
            let word = try HTTPClient.readReply(socket).reply
            #expect(word.status == 100)
            try socket.send(Array(body.utf8))
            #expect(try HTTPClient.readReply(socket).reply.status == 201)
            // Behind an answer that is still to come.
            try socket.send(
                Array(
                    ("GET /api/v1/auctions HTTP/1.1\r\nHost: a\r\n\r\nPOST /api/v1/auctions HTTP/1.1\r\n"
                        + "Host: a\r\nAuthorization: Bearer \(user.token)\r\n"
                        + "Content-Length: \(body.utf8.count)\r\nExpect: 100-continue\r\n\r\n").utf8))
            #expect(try statuses(socket, 2) == [200, 100])
            try socket.send(Array(body.utf8))
            #expect(try statuses(socket, 1) == [201])
        }

        /// The statuses of the next `count` answers.
        private func statuses(_ socket: BlockingSocket, _ count: Int) throws -> [Int] {
            var received: [UInt8] = []
            let status = try Regex(#"HTTP/1.1 (\d{3})"#, as: (Substring, Substring).self)
            func found() -> [Int] {
                String(decoding: received, as: UTF8.self).matches(of: status).compactMap { Int($0.output.1) }
            }
            while found().count < count, let bytes = try socket.receive(milliseconds: 10_000), !bytes.isEmpty
            {
                received += bytes
            }
            return found()
        }

        @Test("a connection ends behind the answer to its last request")
        func lastRequest() throws {
            let path = "GET /api/v1/auctions?limit=1 HTTP/1."
            for head in [
                "1\r\nHost: a\r\nConnection: close", "1\r\nHost: a\r\nConnection: Close",
                "1\r\nHost: a\r\nConnection: keep-alive, close", "0\r\nHost: a", "0",
            ] {
                let socket = try BlockingSocket(port: api.port)
                let first = path + head + "\r\n\r\n"
                try socket.send(Array((first + path + "1\r\nHost: a\r\n\r\n").utf8))
                var received: [UInt8] = []
                var isEnded = false
                while !isEnded, let bytes = try socket.receive(milliseconds: 10_000) {
                    received += bytes
                    isEnded = bytes.isEmpty
                }
                let answers = String(decoding: received, as: UTF8.self).matches(of: /HTTP\/1.[01] 200/).count
                #expect(isEnded && answers == 1, "\(head): \(answers)")
            }
            // Answered before its body is there.
            let early = try BlockingSocket(port: api.port)
            try early.send(
                Array(
                    "POST /nowhere HTTP/1.1\r\nHost: a\r\nConnection: Close\r\nContent-Length: 4\r\n\r\n".utf8
                ))
            #expect(try statuses(early, 1) == [404])
            try early.send(Array("body".utf8))
            #expect(try early.receive(milliseconds: 10_000) == [])
            let kept = try BlockingSocket(port: api.port)
            try kept.send(Array((path + "0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").utf8))
            _ = try statuses(kept, 1)
            try kept.send(Array((path + "1\r\nHost: a\r\n\r\n").utf8))
            #expect(try statuses(kept, 1) == [200])
        }

        @Test("a client that sends far ahead gets every answer, in order")
        func pipelining() throws {
            let user = try api.user("ava")
            let ids = try (0..<2).map { _ in try user.createAuction(lot()) }
            let socket = try BlockingSocket(port: api.port)
            let requests = (0..<500).map {
                "HEAD /api/v1/auctions/\($0 % 2 == 0 ? ids[0] : "none") HTTP/1.1\r\nHost: a\r\n\r\n"
            }
            try socket.send(Array(requests.joined().utf8))
            #expect(try statuses(socket, 500) == (0..<500).map { $0 % 2 == 0 ? 200 : 404 })
            let encoded = "%" + String(ids[1].utf8.first ?? 0, radix: 16) + ids[1].dropFirst()
            #expect(
                try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(encoded)").status == 200)
        }

        @Test(
            "requests that two servers could read differently are refused, with a word, and the connection ends"
        )
        func strictHTTP() throws {
            let host = "Host: a\r\n"
            let post = "POST /api/v1/auth/login HTTP/1.1\r\n\(host)"
            let cases: [(String, Int)] = [
                ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
                ("GET / HTTP/1.1\n\(host)\n", 400), ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
                ("GET / HTTP/1.1\r\n\(host)X: b\r\n c\r\n\r\n", 400),
                ("GET /\u{7F} HTTP/1.1\r\n\(host)\r\n", 400),
                ("\(post)Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
                ("\(post)Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
                ("\(post)Content-Length: +2\r\n\r\n{}", 400),
                ("\(post)Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
                ("\(post)Transfer-Encoding: chunked\r\n\r\n2\r\n{}x", 400),
                ("\(post)Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
                ("\(post)Content-Length: 70000\r\n\r\n", 413),
                ("GET /\(String(repeating: "t", count: 5_000)) HTTP/1.1\r\n\(host)\r\n", 414),
                ("GET / HTTP/1.1\r\n\(host)X: \(String(repeating: "y", count: 9_000))\r\n\r\n", 431),
                ("GET http://a:1/nowhere HTTP/1.1\r\n\(host)\r\n", 404),
                ("\r\nGET /nowhere HTTP/1.1\r\n\(host)\r\n", 404),
            ]
            for (request, status) in cases {
                let socket = try BlockingSocket(port: api.port)
                try socket.send(Array(request.utf8))
                let reply = try HTTPClient.readReply(socket).reply
                #expect(
                    reply.status == status && reply.json["error"] is String,
                    "\(request.prefix(90)): \(reply.text)")
            }
            // Good requests before a bad one are answered first.
            let socket = try BlockingSocket(port: api.port)
            try socket.send(
                Array(
                    "GET /api/v1/auctions HTTP/1.1\r\n\(host)\r\nGET /nowhere HTTP/1.1\r\n\(host)\r\nnonsense\r\n\r\n"
                        .utf8))
            var received: [UInt8] = []
            while let bytes = try socket.receive(milliseconds: 5_000), !bytes.isEmpty { received += bytes }
            let text = String(decoding: received, as: UTF8.self)
            let statuses = text.components(separatedBy: "HTTP/1.1 ").dropFirst().map { $0.prefix(3) }
            #expect(statuses == ["200", "404", "400"], "\(text)")
        }

        @Test("methods that an address does not take are 405 and name those it takes")
        func methods() throws {
            let client = HTTPClient(port: api.port)
            for (method, path, allowed) in [
                ("DELETE", "/api/v1/auctions", "GET, HEAD, POST"), ("TRACE", "/api/v1/auth/login", "POST"),
                ("QUERY", "/openapi.json", "GET, HEAD"), ("HEAD", "/api/v1/auth/login", "POST"),
                ("PATCH", "/api/v1/auctions/a1", "GET, HEAD, PUT, DELETE"),
            ] {
                let reply = try client.request(method, path)
                #expect(
                    reply.status == 405 && reply.fields["allow"] == allowed,
                    "\(method) \(path) \(reply.fields)")
            }
            #expect(try client.request("QUERY", "/nowhere").status == 404)
        }

        @Test(
            "JSON is read to the letter, and an error begins with the field's name",
            arguments: [
                (#"{"amount":7,}"#, "the body is not valid JSON"),
                (#"{"amount":7,"amount":8}"#, "the body has"),
                (#"{"amount":11,"x":{"y":1,"y":2}}"#, "the body has"),
                (#"{"amount":011}"#, "the body is not valid JSON"),
                (#"{"amount":12.34000000000000000000000000000000000000001}"#, "amount:"),
                (#"{"amount":1e400}"#, "amount:"),
                (#"{"amount":12.345}"#, "amount:"), (#"{"amount":"12"}"#, "amount:"),
                (#"{"amount":-5}"#, "amount:"),
                (#"{"amount":0}"#, "amount:"), (#"{}"#, "amount:"), (#"{"amount":null}"#, "amount:"),
                (#"{"amount":12,"max_amount":11}"#, "max_amount:"),
                (#"{"amount":12,"max_amount":true}"#, "max_amount:"),
                ("[]", "the body must be"), ("7", "the body must be"), ("", "the body is not valid JSON"),
            ])
        func strictJSON(body: String, start: String) throws {
            let id = try api.user("seller").createAuction(lot())
            let reply = try api.user("ava").request("POST", "/api/v1/auctions/\(id)/bids", json: body)
            let message = reply.json["message"] as? String ?? ""
            #expect(reply.status == 400 && message.hasPrefix(start), "\(body): \(reply.status) \(message)")
        }

        @Test("numbers are what they say, in whatever form RFC 8259 allows")
        func numbers() throws {
            let (seller, ava, ben) = (try api.user("seller"), try api.user("ava"), try api.user("ben"))
            let id = try seller.createAuction(lot())
            #expect(try ava.bid("1.05e1", on: id).json["amount"] as? Double == 10.5)
            #expect(
                try ben.request("POST", "/api/v1/auctions/\(id)/bids", json: #"{"\u0061mount":12.00}"#).status
                    == 201)
            let wrong = try seller.request(
                "POST", "/api/v1/auctions", json: #"{"title":"x","starting_price":1,"duration_seconds":1.5}"#)
            #expect(
                wrong.status == 400
                    && (wrong.json["message"] as? String)?.hasPrefix("duration_seconds:") == true)
            let right = try seller.request(
                "POST", "/api/v1/auctions", json: #"{"title":"x","starting_price":1,"duration_seconds":36e2}"#
            )
            #expect(right.status == 201)
        }

        @Test("amounts have the decimals of their currency, in answers, events and the database")
        func currencies() throws {
            let seller = try api.user("seller")
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let gateway = try GatewayProcess(redis: [redis.url])
            func create(_ currency: String, _ price: String, _ more: String = "") throws -> HTTPReply {
                try seller.request(
                    "POST", "/api/v1/auctions",
                    json:
                        #"{"title":"x","starting_price":\#(price),"duration_seconds":60,"currency":"\#(currency)"\#(more)}"#
                )
            }
            for (currency, price, more, field) in [
                ("JPY", "100.50", "", "starting_price"), ("USD", "1.234", "", "starting_price"),
                ("JPY", "100", #","reserve_price":200.5"#, "reserve_price"),
                ("JPY", "100", #","bid_increment":0.5"#, "bid_increment"),
                ("KWD", "1.2345", "", "starting_price"), ("usd", "1", "", "currency"),
            ] {
                let reply = try create(currency, price, more)
                let message = reply.json["message"] as? String ?? ""
                #expect(
                    reply.status == 400 && message.hasPrefix("\(field):"), "\(currency) \(price) \(message)")
            }
            let yen = try #require(try create("JPY", "100").json["auction_id"] as? String)
            let refused = try ava.bid("100.50", on: yen)
            #expect(
                refused.status == 400 && (refused.json["message"] as? String)?.hasPrefix("amount:") == true)
            #expect(try ava.bid("150.00", on: yen).text.contains(#""amount":150,"#))
            #expect(
                try ben.bid("150", on: yen).text.contains(#""minimum_bid":151}"#), "an increment of one yen")
            let dinar = try #require(
                try create("KWD", "1.5", #","bid_increment":0.005"#).json["auction_id"] as? String)
            let watcher = try gateway.watch(dinar)
            #expect(try watcher.next().text.contains(#""starting_price":1.500"#))
            #expect(try ava.bid("1.5", on: dinar).status == 201)
            #expect(try ben.bid("1.504", on: dinar).text.contains(#""minimum_bid":1.505}"#))
            #expect(try ben.bid("1.505", on: dinar).status == 201)
            #expect(try watcher.until { $0.sequence == 2 }.text.contains(#""current_price":1.505"#))
            let bids = try ava.request("GET", "/api/v1/auctions/\(dinar)/bids")
            #expect(bids.text.contains(#""amount":1.505"#) && bids.text.contains(#""amount":1.500"#))
            try eventually("it is told") {
                try ava.request("GET", "/api/v1/users/me/notifications").text.contains(#""amount":1.505"#)
            }
            let own = try ava.request("GET", "/api/v1/users/me/bids")
            #expect(own.text.contains(#""amount":150,"#) && own.text.contains(#""current_price":1.505"#))
            let change = try seller.request(
                "PUT", "/api/v1/auctions/\(try create("JPY", "5").json["auction_id"] ?? "")",
                json: #"{"starting_price":5.5}"#)
            #expect(
                change.status == 400
                    && (change.json["message"] as? String)?.hasPrefix("starting_price:") == true)
        }

        @Test(
            "a title without a visible character, or with a control character, is refused",
            arguments: [
                "", " ", "\u{A0}\u{3000}", "\u{200B}\u{200D}", "\u{2060}\u{FEFF}", "\u{7}", "a\u{7}b",
                "\u{3164}", "\u{2800}", "a\nb", "\u{301}",
            ])
        func titles(title: String) throws {
            let body = try JSONSerialization.data(
                withJSONObject: [
                    "title": title, "starting_price": 1, "duration_seconds": 60,
                ] as [String: Any])
            let reply = try api.user("seller").request(
                "POST", "/api/v1/auctions", json: String(decoding: body, as: UTF8.self))
            #expect(reply.status == 400 && (reply.json["message"] as? String)?.hasPrefix("title:") == true)
        }

        @Test("titles may be in any writing")
        func goodTitles() throws {
            let seller = try api.user("seller")
            for title in ["Uhr", "時計", "Часы", "ساعة", "🔨", "a", String(repeating: "é", count: 200)] {
                #expect(try seller.createAuction(lot().replacing("Lot", with: title)).hasPrefix("auc_"))
            }
        }

        @Test("a taken name or address is 409 and says which")
        func taken() throws {
            _ = try api.user("ava")
            let client = HTTPClient(port: api.port)
            func register(_ name: String, _ email: String) throws -> HTTPReply {
                try client.request(
                    "POST", "/api/v1/auth/register",
                    json: #"{"username":"\#(name)","email":"\#(email)","password":"12345678"}"#)
            }
            let name = try register("AVA", "other@bidder.example")
            #expect(name.status == 409 && name.json["error"] as? String == "USERNAME_TAKEN")
            let email = try register("other", "Ava@bidder.example")
            #expect(email.status == 409 && email.json["error"] as? String == "EMAIL_TAKEN")
        }

        @Test(
            "parameters are what the description says",
            arguments: [
                "sort=", "status=", "limit=", "sort=best", "limit=0",
                "limit=101",
                "limit=+5", "limit=05", "cursor=x", "cursor=5", "cursor=1.a%20b", "cursor=-1.a",
                "cursor=01.a",
            ])
        func parameters(query: String) throws {
            let reply = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions?\(query)")
            let name = query.prefix { $0 != "=" }
            let message = reply.json["message"] as? String ?? ""
            #expect(
                reply.status == 400 && message.hasPrefix("\(name):"), "\(query): \(reply.status) \(message)")
        }

        @Test("a search without a word finds nothing; of many words only the first are used")
        func searches() throws {
            _ = try api.user("seller").createAuction(lot())
            let client = HTTPClient(port: api.port)
            let nothing = try client.request("GET", "/api/v1/auctions?q=%21%21")
            #expect(nothing.status == 200 && (nothing.json["auctions"] as? [Any])?.isEmpty == true)
            let words = Array(repeating: "lot", count: 12).joined(separator: "%20")
            let found = try client.request("GET", "/api/v1/auctions?q=\(words)")
            #expect(found.status == 200 && (found.json["auctions"] as? [Any])?.count == 1)
        }

        @Test("a 503 suggests repeating with an Idempotency-Key for bids only")
        func promises() throws {
            let postgres = try PostgresServer()
            let other = try BidAPIProcess(database: try postgres.database("promises"), redis: [redis.url])
            let user = try other.user("ava")
            postgres.kill()
            for (method, path, json, isBid) in [
                ("GET", "/api/v1/auctions", nil, false), ("POST", "/api/v1/auctions", lot(), false),
                ("POST", "/api/v1/auctions/a1/bids", #"{"amount":1}"#, true),
                ("POST", "/api/v1/auctions/a1/buy-now", nil, true),
                ("GET", "/api/v1/auctions/a1/bids", nil, false),
            ] as [(String, String, String?, Bool)] {
                let reply = try user.request(method, path, json: json)
                let message = reply.json["message"] as? String ?? ""
                #expect(
                    reply.status == 503 && message.contains("Idempotency-Key") == isBid,
                    "\(method) \(path): \(message)")
            }
        }
    }
}
