import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// Maxima and buying at once over HTTP, down to the watcher; the rules themselves are tested without a
    /// server.
    @Suite(.serialized) struct ProxyBids {
        private static let recordings = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("shared/data/ebay-auctions.csv").path

        let redis: RedisServer
        let gateway: GatewayProcess
        let api: BidAPIProcess

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url])
            api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url],
                arguments: ["--snipe-window-seconds", "0"])
        }

        private func post(_ path: String, _ client: BidClient, _ json: String = "{}") throws -> HTTPReply {
            try HTTPClient(port: api.port).request("POST", path, token: client.token, json: json)
        }

        @Test(
            "a maximum stays secret while it leads; beaten challengers and automatic answers reach every watcher"
        )
        func maxima() throws {
            let (ava, ben) = (try api.user("ava"), try api.user("ben"))
            let id = try api.user("seller").createAuction(
                #"{"title":"lot","starting_price":10,"bid_increment":1,"duration_seconds":600}"#)
            let path = "/api/v1/auctions/\(id)"
            let watcher = try gateway.watch(id)
            #expect(try watcher.next().type == "SNAPSHOT")
            let first = try post(path + "/proxy", ava, #"{"max_amount":77.77}"#)
            #expect(first.status == 201 && first.json["amount"] as? Double == 10, "\(first.text)")
            let beaten = try post(path + "/bids", ben, #"{"amount":20}"#)
            #expect(beaten.status == 201 && beaten.json["your_rank"] as? Int == 2, "\(beaten.text)")
            #expect(
                beaten.json["is_highest_bidder"] as? Bool == false
                    && beaten.json["new_current_price"] as? Double == 21)
            let limited = try post(path + "/bids", ben, #"{"amount":30,"max_amount":40}"#)
            #expect(
                limited.json["amount"] as? Double == 40 && limited.json["new_current_price"] as? Double == 41)
            let raised = try post(path + "/proxy", ava, #"{"max_amount":88.88}"#)
            #expect(raised.status == 201 && raised.json["new_current_price"] as? Double == 41)
            #expect(
                try post(path + "/proxy", ava, #"{"max_amount":50}"#).json["error"] as? String
                    == "BID_TOO_LOW")
            #expect(
                try post(path + "/bids", ava, #"{"amount":90}"#).json["error"] as? String == "ALREADY_HIGHEST"
            )
            var told = first.text + beaten.text + limited.text + raised.text
            var amounts: [Double] = []
            for sequence in 1...5 {
                let message = try watcher.next()
                #expect(message.type == "BID_UPDATE" && message.sequence == sequence)
                let bid = try #require(message.json["bid"] as? [String: Any])
                amounts.append(try #require(bid["amount"] as? Double))
                told += message.text
            }
            #expect(amounts == [10, 20, 21, 40, 41])
            told += try HTTPClient(port: api.port).request("GET", path).text
            told += try HTTPClient(port: api.port).request("GET", path + "/bids").text
            #expect(!told.contains("77.77") && !told.contains("88.88"), "the maximum was told")
            // A tie: the maximum is beaten by nobody, but bid in full.
            let tie = try post(path + "/proxy", ben, #"{"max_amount":88.88}"#)
            #expect(tie.status == 409 && tie.json["current_price"] as? Double == 88.88, "\(tie.text)")
            #expect(try watcher.next().json["current_price"] as? Double == 88.88)
            for (address, body) in [
                ("/proxy", #"{"max_amount":0}"#), ("/bids", #"{"amount":5,"max_amount":4}"#),
            ] {
                #expect(try post(path + address, ben, body).status == 400)
            }
        }

        @Test("buying ends the auction in the bid's transaction, for the one who comes first")
        func buysNow() throws {
            let id = try api.user("seller").createAuction(
                #"{"title":"lot","starting_price":10,"reserve_price":20,"buy_now_price":50,"duration_seconds":600}"#
            )
            let watcher = try gateway.watch(id)
            #expect(try watcher.next().type == "SNAPSHOT")
            let port = api.port
            let tokens = try (0..<8).map { try api.user("buyer\($0)").token }
            let statuses = try together(8) { index in
                try HTTPClient(port: port).request(
                    "POST", "/api/v1/auctions/\(id)/buy-now", token: tokens[index]
                ).status
            }
            #expect(statuses.sorted() == [201] + [Int](repeating: 410, count: 7))
            #expect(try watcher.next().json["current_price"] as? Int == 50)
            let ended = try watcher.next()
            #expect(ended.type == "AUCTION_ENDED" && ended.json["outcome"] as? String == "sold")
            #expect(ended.sequence == 2 && ended.json["winning_bid"] as? Int == 50)
            let plain = try api.user("seller2").createAuction(
                #"{"title":"lot","starting_price":10,"duration_seconds":600}"#)
            let refused = try post("/api/v1/auctions/\(plain)/buy-now", try api.user("zoe"))
            #expect(refused.status == 400, "\(refused.text)")
        }

        @Test(
            "recorded auctions of eBay end at their price, but for those that had a secret reserve",
            // Auctions of a few seconds do not wait for instrumented services.
            .enabled(if: FileManager.default.fileExists(atPath: recordings) && !Sanitizer.isOn))
        func recordedAuctions() throws {
            let replay = try ChildProcess(
                "replay",
                [
                    Programs.path("gavelcast-loadtest"), "replay", "--bid-api-port", "\(api.port)", "--csv",
                    Self.recordings, "--seconds", "6",
                ])
            #expect(replay.waitForExit() == 0, "\(replay.log)")
            let last = replay.log.split(separator: "\n").last ?? ""
            let words = last.split(separator: " ")
            #expect(words.count == 6 && words[0] == "333" && Int(words[2]) ?? 0 >= 315, "\(last)")
        }
    }
}
