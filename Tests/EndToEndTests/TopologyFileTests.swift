import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// The configurations of docs/topologies.md, run as they stand but for hosts and ports.
    @Suite(.serialized) struct TopologyFiles {
        private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("config/topologies")

        /// A copy of a file in which names like `redis-1:6379` are addresses of private servers.
        private func file(_ name: String, _ places: [String: Int]) throws -> String {
            var text = try String(
                contentsOf: Self.folder.appendingPathComponent(name), encoding: .utf8)
            for (place, port) in places {
                #expect(text.contains(place), "\(name) names no \(place)")
                text = text.replacing(place, with: "127.0.0.1:\(port)")
            }
            let path = Guardian.shared.folder + "/\(UUID().uuidString).yml"
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            return path
        }

        /// Runs both services with the file and takes one bid to a watcher.
        private func run(_ path: String, database: String?) throws {
            let api = try BidAPIProcess(
                database: database, redis: [], arguments: ["--config", path])
            let gateway = try GatewayProcess(redis: [], arguments: ["--config", path])
            let auction = try api.user("seller").createAuction(
                #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            let watcher = try gateway.watch(auction)
            #expect(try watcher.next().type == "SNAPSHOT")
            #expect(try api.user("ava").bid("10", on: auction).status == 201)
            #expect(try watcher.until { $0.sequence == 1 }.type == "BID_UPDATE")
        }

        @Test("sentinel.yml")
        func sentinel() throws {
            let redis = try RedisSentinels(password: "change-me")
            let places = Dictionary(
                uniqueKeysWithValues: redis.sentinels.enumerated().map {
                    ("sentinel-\($0.offset + 1):26379", $0.element.port)
                })
            try run(try file("sentinel.yml", places), database: try SharedPostgres.database())
        }

        @Test("cluster.yml")
        func cluster() throws {
            let redis = try RedisCluster(hasReplicas: false)
            let places = Dictionary(
                uniqueKeysWithValues: redis.nodes.enumerated().map {
                    ("redis-\($0.offset + 1):6379", $0.element.port)
                })
            try run(try file("cluster.yml", places), database: try SharedPostgres.database())
        }

        @Test("several.yml")
        func several() throws {
            let servers = try [RedisServer(), RedisServer()]
            let places = ["redis-1:6379": servers[0].port, "redis-2:6379": servers[1].port]
            try run(try file("several.yml", places), database: try SharedPostgres.database())
        }

        @Test("standby.yml")
        func standby() throws {
            let first = try PostgresServer()
            _ = try first.database("gavelcast")
            let second = try PostgresServer(standbyOf: first)
            let redis = try RedisServer()
            let path = try file(
                "standby.yml",
                [
                    "postgres-1:5432": first.port, "postgres-2:5432": second.port,
                    "redis-1:6379": redis.port,
                ])
            let api = try BidAPIProcess(database: nil, redis: [], arguments: ["--config", path])
            let auction = try api.user("seller").createAuction(
                #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            #expect(try api.user("ava").bid("10", on: auction).status == 201)
        }

        @Test("replica.yml")
        func replica() throws {
            let first = try PostgresServer()
            _ = try first.database("gavelcast")
            let second = try PostgresServer(standbyOf: first)
            let redis = try RedisServer()
            let path = try file(
                "replica.yml",
                [
                    "postgres-1:5432": first.port, "postgres-2:5432": second.port,
                    "redis-1:6379": redis.port,
                ])
            let api = try BidAPIProcess(database: nil, redis: [], arguments: ["--config", path])
            try eventually("the replica serves") {
                try HTTPClient(port: api.port).request("GET", "/api/v1/auctions")
                    .fields["gavelcast-data-age"] != nil
            }
        }

        @Test("pgbouncer.ini")
        func pooler() throws {
            let postgres = try PostgresServer()
            _ = try postgres.database("gavelcast")
            let text = try String(
                contentsOf: Self.folder.appendingPathComponent("pgbouncer.ini"), encoding: .utf8)
            let place = "host=postgres-1 port=5432"
            let users = "auth_file = /etc/pgbouncer/userlist.txt"
            #expect(text.contains(place) && text.contains(users))
            let pooler = try Pooler(
                text.replacing(place, with: "host=127.0.0.1 port=\(postgres.port) user=gavelcast")
                    .replacing(users, with: ""))
            let redis = try RedisServer()
            let apis = try (0..<4).map { _ in
                try BidAPIProcess(database: pooler.url("gavelcast"), redis: [redis.url])
            }
            // More at once than a bid API has connections.
            let statuses = DatabaseFailover.statuses(of: 200, at: apis.map(\.port))
            #expect(Set(statuses) == [200], "\(statuses)")
        }

        @Test("every file has a test here")
        func complete() throws {
            let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
            #expect(
                names == [
                    "cluster.yml", "pgbouncer.ini", "replica.yml", "sentinel.yml", "several.yml",
                    "standby.yml",
                ])
        }
    }
}
