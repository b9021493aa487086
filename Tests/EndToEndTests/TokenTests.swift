import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing
import Tokens

extension EndToEndTests {
    /// Who may watch what, and the notifications of one user.
    @Suite(.serialized) struct TokensAndUsers {
        private static let secret = [UInt8](repeating: 7, count: 32)
        let redis: RedisServer
        let keysPath: String
        let key: TokenKey

        init() throws {
            redis = try RedisServer()
            key = try TokenKey(keyID: "k", secret: Self.secret)
            keysPath = Guardian.shared.folder + "/keys-\(UUID().uuidString).json"
            let encoded = Data(Self.secret).base64EncodedString().replacing("=", with: "")
            try #"{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"\#(encoded)"}]}"#.write(
                toFile: keysPath, atomically: true, encoding: .utf8)
        }

        private func gateway(_ arguments: [String] = []) throws -> GatewayProcess {
            try GatewayProcess(redis: [redis.url], arguments: ["--token-keys", keysPath] + arguments)
        }

        private func token(
            _ subject: String = "usr_1", seconds: Int = 60, auctions: AccessToken.Auctions = .none
        ) -> String {
            AccessToken(
                subject: subject, expiresAt: Int(Date.now.timeIntervalSince1970) + seconds, audience: "watch",
                auctions: auctions
            ).signed(with: key)
        }

        @Test("a token for another audience watches nothing")
        func audience() throws {
            let gateway = try gateway()
            let token = AccessToken(
                subject: "usr_1", expiresAt: Int(Date.now.timeIntervalSince1970) + 60, audience: "other"
            ).signed(with: key)
            for path in ["/v1/auctions/a1/live", "/v1/live?auctions=a1", "/v1/users/me/live"] {
                let reply = try gateway.get(
                    path, fields: ["Accept": "text/event-stream", "Authorization": "Bearer \(token)"])
                #expect(reply.status == 403 && reply.json["error"] as? String == "FORBIDDEN", "\(path)")
            }
        }

        @Test("two users whose names look the same to a reader have a channel each")
        func lookAlikes() throws {
            let gateway = try gateway()
            // An accented letter as one character and as two, and a name that begins with the accent.
            let names = ["\u{E9}", "e\u{301}", "\u{301}"]
            let sockets = try names.map { name in
                try WebSocketClient(port: gateway.port, path: "/v1/users/me/live?token=\(token(name))")
            }
            let client = try redis.client()
            for name in names {
                try eventually("the channel is subscribed") {
                    try client.call("PUBSUB", "NUMSUB", RedisKeys.userChannel(name)).array?[1] == .integer(1)
                }
            }
            for (index, name) in names.enumerated() {
                _ = try client.call(
                    "PUBLISH", RedisKeys.userChannel(name), #"{"type":"OUTBID","n":\#(index)}"#)
            }
            for (index, socket) in sockets.enumerated() {
                #expect(try socket.next() == .text(#"{"type":"OUTBID","n":\#(index)}"#))
            }
        }

        @Test("a user's notifications come over WebSocket and event stream, and nobody else's")
        func notifications() throws {
            let gateway = try gateway()
            let path = "/v1/users/me/live"
            let socket = try WebSocketClient(
                port: gateway.port, path: path, fields: ["Authorization": "Bearer \(token())"])
            #expect(socket.handshake.status == 101)
            let stream = try EventStreamClient(port: gateway.port, path: "\(path)?token=\(token())")
            #expect(try #require(stream.reply.status == 200 ? stream.next() : nil).retry != nil)
            let other = try WebSocketClient(port: gateway.port, path: "\(path)?token=\(token("usr_2"))")
            // Another page of the same user, on a channel that is known already.
            for _ in 0..<4 {
                let again = try EventStreamClient(port: gateway.port, path: "\(path)?token=\(token())")
                #expect(
                    again.reply.status == 200 && again.reply.fields["content-type"] == "text/event-stream")
            }
            let client = try redis.client()
            for user in ["usr_1", "usr_2"] {
                try eventually("the channel is subscribed") {
                    try client.call("PUBSUB", "NUMSUB", RedisKeys.userChannel(user)).array?[1] == .integer(1)
                }
            }
            // A sequence number means nothing here: there is no order to keep.
            let outbid = #"{"type":"OUTBID","auction_id":"a1","seq":7,"notification_id":"n1"}"#
            for _ in 0..<2 { _ = try client.call("PUBLISH", "user:usr_1", outbid) }
            _ = try client.call("PUBLISH", "user:usr_2", #"{"type":"AUCTION_WON","notification_id":"n2"}"#)
            for _ in 0..<2 {
                #expect(try socket.next() == .text(outbid))
                let event = try #require(try stream.next())
                #expect(event.type == "OUTBID" && event.data == outbid && event.id == nil)
            }
            #expect(try other.next() == .text(#"{"type":"AUCTION_WON","notification_id":"n2"}"#))
            try socket.send(text: #"{"type":"PING","t":1}"#)
            guard case .text(let pong)? = try socket.next() else { throw TimedOut(description: "no PONG") }
            #expect(pong.hasPrefix(#"{"type":"PONG","t":1,"#))
            // The link is lost and made again: the channel is subscribed again.
            redis.kill()
            try redis.start()
            let again = try redis.client()
            try eventually("the channel is subscribed again") {
                try again.call("PUBSUB", "NUMSUB", "user:usr_1").array?[1] == .integer(1)
            }
            _ = try again.call("PUBLISH", "user:usr_1", outbid)
            #expect(try socket.next() == .text(outbid))
        }

        @Test("without a token, or with a wrong one, there is nothing to see")
        func refusals() throws {
            let gateway = try gateway()
            func status(_ path: String, _ token: String?) throws -> Int {
                var fields = ["Accept": "text/event-stream"]
                if let token { fields["Authorization"] = "Bearer \(token)" }
                return try EventStreamClient(port: gateway.port, path: path, fields: fields).reply.status
            }
            let user = "/v1/users/me/live"
            #expect(try status(user, nil) == 401)
            #expect(try status(user, "x") == 401)
            #expect(try status(user, token(seconds: -60)) == 401)
            #expect(try gateway.get(user, fields: ["Authorization": "Bearer \(token())"]).status == 426)
            let secret = "/v1/auctions/prv_1/live"
            #expect(try status(secret, nil) == 401)
            #expect(try status(secret, token()) == 403)
            #expect(try status(secret, token(auctions: .listed(["prv_2"]))) == 403)
            #expect(try status(secret, token(auctions: .listed(["prv_1"]))) == 200)
            #expect(try status(secret, token(auctions: .all)) == 200)
            #expect(try status("/v1/live?auctions=a1,prv_1", token()) == 403)
            #expect(try status("/v1/live?auctions=a1,prv_1", token(auctions: .all)) == 200)
            #expect(try status("/v1/auctions/a1/live", token(auctions: .listed(["prv_1"]))) == 200)
            #expect(try status("/v1/auctions/a1/live", "x") == 401, "a wrong token is not no token")
            #expect(!gateway.process.log.contains("eyJ"), "no token in the log")
        }

        @Test(
            "with auth-required every watch needs a token; on a connection of many the token speaks for all")
        func required() throws {
            let gateway = try gateway(["--auth-required"])
            #expect(try gateway.get("/v1/auctions/a1/live").status == 401)
            #expect(try WebSocketClient(port: gateway.port, path: "/v1/live").handshake.status == 401)
            let allowed = token(auctions: .listed(["a1", "prv_1"]))
            let socket = try WebSocketClient(port: gateway.port, path: "/v1/live?token=\(allowed)")
            var answers: [String] = []
            for auction in ["a1", "prv_1", "prv_2", "a2"] {
                try socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"\#(auction)"}"#)
                guard case .text(let text)? = try socket.next() else {
                    throw TimedOut(description: "no answer")
                }
                let message = try Received(text)
                answers.append(message.json["error"] as? String ?? message.type)
            }
            #expect(answers == ["SNAPSHOT", "SNAPSHOT", "FORBIDDEN", "FORBIDDEN"])
        }

        @Test("a token of the bid API that shares the keys is taken")
        func shared() throws {
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url],
                arguments: ["--token-keys", keysPath])
            let gateway = try gateway()
            let user = try api.user("ava")
            let socket = try WebSocketClient(
                port: gateway.port, path: "/v1/users/me/live",
                fields: ["Authorization": "Bearer \(user.token)"])
            #expect(socket.handshake.status == 101)
            let auction = try api.user("seller").createAuction(
                #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            let watching = HTTPClient(port: api.port)
            let refused = try watching.request(
                "POST", "/api/v1/auctions/\(auction)/bids", token: token(), json: #"{"amount":10}"#)
            #expect(refused.status == 403, "a token for watching cannot bid")
        }

        @Test(
            "settings that contradict each other are refused with status 78",
            arguments: [
                (["--auth-required"], "auth-required"), (["--token-keys", "/nowhere"], "token-keys"),
                (["--origins", "null"], "origins"),
            ])
        func badSettings(_ arguments: [String], _ name: String) throws {
            let process = try ChildProcess(
                "gateway", [Programs.path("gavelcast-gateway"), "--check-config"] + arguments)
            #expect(process.waitForExit() == 78)
            #expect(process.log.contains(name) && process.log.split(separator: "\n").count == 1)
        }

        @Test("an echo path beside auth-required is refused")
        func echoAndTokens() throws {
            let process = try ChildProcess(
                "gateway",
                [
                    Programs.path("gavelcast-gateway"), "--check-config", "--auth-required", "--token-keys",
                    keysPath, "--echo-path", "/echo",
                ])
            #expect(process.waitForExit() == 78 && process.log.contains("echo-path"))
        }
    }
}
