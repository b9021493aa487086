import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// The load tester as its users call it.
    @Suite(.serialized) struct LoadTester {
        private let folder = Guardian.shared.folder + "/load-\(UUID().uuidString)"

        init() throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }

        private func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
            let process = try ChildProcess("loadtest", [Programs.path("gavelcast-loadtest")] + arguments)
            return (process.waitForExit(), process.log)
        }

        private func scenario(_ text: String) throws -> (status: Int32, output: String, report: [String: Any])
        {
            let path = "\(folder)/case.yml"
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            let (status, output) = try run(["run", path, "--reports", folder, "--quiet"])
            let data = FileManager.default.contents(atPath: "\(folder)/case.json") ?? Data("{}".utf8)
            return (status, output, try JSONSerialization.jsonObject(with: data) as? [String: Any] ?? [:])
        }

        @Test(
            "watch and publish agree in an audit, and an event that watchers never had is told with its watchers"
        )
        func audit() throws {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url])
            let watch = try ChildProcess(
                "watch",
                [
                    Programs.path("gavelcast-loadtest"), "watch", "--port", "\(gateway.port)", "--watchers",
                    "30",
                    "--auctions", "a1", "--auctions", "a2", "--transports", "websocket", "--transports",
                    "sse",
                    "--transports", "long-poll", "--seconds", "5", "--accounts", "\(folder)/accounts.json",
                ])
            try eventually("all watch") { try gateway.metric("gavelcast_snapshots_total") >= 30 }
            let publish = { (count: Int) in
                try self.run([
                    "publish", "--redis-url", redis.url, "--auctions", "a1", "--auctions", "a2", "--rate",
                    "400",
                    "--events", "\(count)", "--lossless-every", "7", "--truth", "\(self.folder)/truth.json",
                ])
            }
            #expect(try publish(200).status == 0)
            #expect(watch.waitForExit() == 0, "\(watch.log)")
            let audit = ["audit", "--accounts", "\(folder)/accounts.json", "--truth", "\(folder)/truth.json"]
            let clean = try run(audit)
            #expect(clean.status == 0 && clean.output.contains("nothing lost"), "\(clean.output)")
            #expect(clean.output.contains("30 watches of 200 events"))

            // The same truth with two more events, and then another one of the same length.
            let path = "\(folder)/truth.json"
            var truth = try #require(
                try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
                    as? [String: Any])
            var auctions = try #require(truth["truth"] as? [[String: Any]])
            let whole = auctions
            auctions[0]["hashes"] = (auctions[0]["hashes"] as? [Any] ?? []) + [1, 2]
            auctions[0]["isLossless"] = (auctions[0]["isLossless"] as? [Any] ?? []) + [false, false]
            truth["truth"] = auctions
            try JSONSerialization.data(withJSONObject: truth).write(to: URL(fileURLWithPath: path))
            let lost = try run(audit)
            #expect(lost.status == 1 && lost.output.contains("watcher 0 of watch, auction a1, at seq 100"))
            auctions = whole
            var hashes = try #require(auctions[1]["hashes"] as? [Any])
            hashes[6] = 99
            auctions[1]["hashes"] = hashes
            truth["truth"] = auctions
            try JSONSerialization.data(withJSONObject: truth).write(to: URL(fileURLWithPath: path))
            let changed = try run(audit)
            #expect(changed.status == 1 && changed.output.contains("lossless events are not exactly"))
        }

        @Test(
            "a scenario with an outage and a restart under load reports figures, and every watcher is accounted for"
        )
        func wholeRun() throws {
            let (status, output, report) = try scenario(
                """
                summary: everything at once, small
                servers: {gateways: 2, floor: true, settings: {workers: 1, drain-seconds: 1}}
                groups:
                  - {name: crowd, watchers: 120, auctions: 2, transports: [websocket, sse, long-poll], slow-per-mille: 50}
                  - {name: bare, server: floor, watchers: 20, auctions: 2}
                steps:
                  - {do: publish, name: beginning, rate: 50, events: 4}
                  - {do: connect, group: crowd}
                  - {do: connect, group: bare, name: connect bare}
                  - {do: compare, pairs: 1, rate: 100, events: 20}
                  - do: publish
                    rate: 40
                    events: 400
                    meanwhile:
                      - {do: disconnect, name: storm}
                      - {do: restart-redis, outage-seconds: 1}
                      - {do: restart-gateways, name: restart}
                  - {do: settle}
                  - {do: kernel, sockets: 20, rounds: 3}
                goals:
                  - {figure: audit/faults, at-most: 0}
                  - {figure: compare/CPU ratio, at-least: 1000000}
                """)
            #expect(status == 0, "\(output)")
            let audit = try #require(report["audit"] as? [String: Any])
            #expect((audit["faults"] as? [String: Any])?.isEmpty == true)
            #expect(audit["watches"] as? Int ?? 0 >= 140)
            let figures = try #require(report["figures"] as? [[String: Any]])
            func figure(_ name: String) -> [String: Any]? { figures.first { $0["name"] as? String == name } }
            #expect(figure("audit/faults")?["isMet"] as? Bool == true)
            #expect(figure("compare/CPU ratio")?["isMet"] as? Bool == false)
            #expect(figure("publish/deliveries")?["value"] as? Double ?? 0 > 1_000)
            #expect(figure("kernel/send CPU")?["value"] as? Double ?? 0 > 0)
            let page = try String(contentsOfFile: "\(folder)/case.html", encoding: .utf8)
            #expect(page.contains("everything at once, small") && !page.contains("/*DATA*/"))
            #expect(
                !page.contains("http://") || page.contains("http://www.w3.org/2000/svg"),
                "it needs no network")
        }

        @Test("bids through the API are audited against PostgreSQL, and each gets its answer")
        func bids() throws {
            let database = try SharedPostgres.database()
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: database, redis: [redis.url])
            let gateway = try GatewayProcess(redis: [redis.url])
            let auction = try api.user("seller").createAuction(
                #"{"title":"lot","starting_price":1,"bid_increment":1,"duration_seconds":600}"#)
            let watch = try ChildProcess(
                "watch",
                [
                    Programs.path("gavelcast-loadtest"), "watch", "--port", "\(gateway.port)", "--watchers",
                    "9",
                    "--auctions", auction, "--transports", "websocket", "--transports", "sse", "--seconds",
                    "4",
                    "--accounts", "\(folder)/accounts.json",
                ])
            try eventually("all watch") { try gateway.metric("gavelcast_snapshots_total") >= 9 }
            let bidders = try [api.user("ava"), api.user("bruno")]
            for amount in 1...20 {
                #expect(try bidders[amount % 2].bid("\(amount)", on: auction).status == 201)
            }
            #expect(watch.waitForExit() == 0, "\(watch.log)")
            let audit = try run([
                "audit", "--accounts", "\(folder)/accounts.json", "--database-url", database,
            ])
            #expect(audit.status == 0 && audit.output.contains("9 watches of 20 events"), "\(audit.output)")

            let load = try run([
                "bid", "--bid-api-port", "\(api.port)", "--bidders", "4", "--rate", "50", "--seconds", "1",
            ])
            #expect(load.status == 0 && load.output.contains("× 201"), "\(load.output)")
        }

        @Test("what is wrong with a command line or a scenario is one line that names it")
        func refusals() throws {
            for (arguments, status, name) in [
                (["dance"], 64, "dance"), (["run"], 64, "which scenario"),
                (["run", "nowhere.yml"], 69, "nowhere.yml"),
                (["watch", "--transports", "udp"], 64, "udp"), (["audit"], 64, "accounts"),
                (["publish", "--rate", "0"], 64, "rate"), (["floor", "--listen", "here"], 64, "listen"),
                (["publish", "--redis-url", "http://a"], 78, "redis-url"),
            ] as [([String], Int32, String)] {
                let result = try run(arguments)
                #expect(result.status == status && result.output.contains(name), "\(arguments): \(result)")
                #expect(result.output.split(separator: "\n").count == 1, "\(result.output)")
            }
            let help = try run(["--help"])
            #expect(help.status == 0)
            for command in ["watch", "publish", "bid", "audit", "floor", "run", "demo"] {
                #expect(help.output.contains("  \(command) "))
                #expect(try run([command, "--help"]).status == 0)
            }
        }
    }
}
