import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// Lists and histories from a replica of PostgreSQL.
    @Suite(.serialized) struct ReadReplicas {
        private let primary: PostgresServer
        private let replica: PostgresServer
        private let redis: RedisServer
        private let api: BidAPIProcess
        private let control: PostgresConnection

        init() throws {
            primary = try PostgresServer()
            let database = try primary.database("reading")
            replica = try PostgresServer(standbyOf: primary)
            redis = try RedisServer()
            control = try PostgresConnection(url: replica.readingURL("postgres"))
            api = try BidAPIProcess(
                database: database, redis: [redis.url],
                arguments: [
                    "--database-read-url",
                    database.replacing(":\(primary.port)/", with: ":\(replica.port)/"),
                    "--read-lag-seconds", "2",
                ])
        }

        /// The titles of an answered list, and how old the answer says that it may be.
        private func list() throws -> (titles: [String], age: Double?) {
            let reply = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions?sort=newest")
            #expect(reply.status == 200, "\(reply.text)")
            let rows = reply.json["auctions"] as? [[String: Any]] ?? []
            return (
                rows.compactMap { $0["title"] as? String },
                reply.fields["gavelcast-data-age"].flatMap(Double.init)
            )
        }

        private func expectPrimary(_ expected: [String]) throws {
            let (titles, age) = try list()
            #expect(titles == expected && age == nil)
        }

        private func create(_ seller: BidClient, _ title: String) throws -> String {
            try seller.createAuction(
                #"{"title":"\#(title)","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
        }

        @Test(
            "the replica serves while it is fresh, and its answers declare an age that is within the limit"
        )
        func freshness() throws {
            let seller = try api.user("seller")
            let first = try create(seller, "first")
            #expect(try api.user("ava").bid("10", on: first).status == 201)
            try eventually("the replica serves what was committed") {
                let (titles, age) = try self.list()
                return titles == ["first"] && age.map { $0 <= 2 } ?? false
            }
            let history = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(first)/bids")
            #expect(history.json["total"] as? Int == 1 && history.fields["gavelcast-data-age"] != nil)
            // The replica goes on answering, with data that grow old.
            try control.query("SELECT pg_wal_replay_pause()")
            let second = try create(seller, "second")
            let missing = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions/\(second)/bids")
            #expect(missing.status == 200, "the primary has what the replica lacks")
            try eventually("the primary serves") {
                let (titles, age) = try self.list()
                #expect(titles == ["second", "first"] || age != nil, "only a declared answer may lack one")
                return age == nil && titles.count == 2
            }
            try control.query("SELECT pg_wal_replay_resume()")
            try eventually("the replica serves again") {
                let (titles, age) = try self.list()
                return titles.count == 2 && age != nil
            }
        }

        @Test("while the replica hangs or is down, the primary serves")
        func outage() throws {
            let seller = try api.user("seller")
            _ = try create(seller, "first")
            try eventually("the replica serves") { try self.list().age != nil }
            replica.signal(SIGSTOP)
            try expectPrimary(["first"])
            replica.signal(SIGCONT)
            try eventually("the replica serves again") { try self.list().age != nil }
            replica.kill()
            _ = try create(seller, "second")
            try expectPrimary(["second", "first"])
            try replica.start()
            try eventually("the replica serves once more", within: 60) { try self.list().age != nil }
            #expect(api.process.log.contains("the replica does not answer"))
        }

        @Test("while the replica lacks the tables, the primary serves")
        func foreign() throws {
            let other = try PostgresServer()
            let database = try primary.database("another")
            let api = try BidAPIProcess(
                database: database, redis: [redis.url],
                arguments: ["--database-read-url", try other.database("empty")])
            _ = try create(try api.user("seller"), "first")
            let reply = try HTTPClient(port: api.port).request("GET", "/api/v1/auctions")
            #expect(reply.status == 200 && reply.text.contains("first"))
            #expect(reply.fields["gavelcast-data-age"] == nil)
        }
    }
}
