import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// A bid's trace, from its request to the gateway's last watcher.
    @Suite(.serialized) struct Tracing {
        private struct Line {
            let name: String
            let parent: String
            let span: String
            let service: String
        }

        /// The spans of a trace in a file, which may not be complete yet.
        private static func spans(_ path: String, of trace: String) throws -> [Line] {
            let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            return try text.split(separator: "\n").compactMap { line in
                let object = try #require(
                    try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
                let resource = try #require((object["resourceSpans"] as? [[String: Any]])?.first)
                let scope = try #require((resource["scopeSpans"] as? [[String: Any]])?.first)
                let span = try #require((scope["spans"] as? [[String: Any]])?.first)
                guard span["traceId"] as? String == trace else { return nil }
                return Line(
                    name: span["name"] as? String ?? "", parent: span["parentSpanId"] as? String ?? "",
                    span: span["spanId"] as? String ?? "",
                    service: "\(resource["resource"] ?? "")".contains("gavelcast-bidapi")
                        ? "bidapi" : "gateway")
            }
        }

        @Test("a traced bid can be followed to its last watcher; other bids carry nothing")
        func follows() throws {
            let redis = try RedisServer()
            let folder = Guardian.shared.folder
            let files = (0..<2).map { _ in folder + "/\(UUID().uuidString.prefix(8)).spans" }
            let api = try BidAPIProcess(
                database: try SharedPostgres.database(), redis: [redis.url],
                arguments: ["--trace-file", files[0]])
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--trace-file", files[1]])
            let auctionID = try api.user("seller").createAuction(
                #"{"title":"Traced","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            let watcher = try gateway.watch(auctionID)
            _ = try watcher.next()
            let bidders = [try api.user("ava"), try api.user("ben")]
            let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
            let fields: [[String: String]] = [
                [:], ["traceparent": "00-\(trace)-\(caller)-00"], ["traceparent": "nonsense"],
                ["traceparent": "00-\(trace)-\(caller)-01"],
            ]
            for (index, fields) in fields.enumerated() {
                #expect(
                    try bidders[index % 2].bid("\(10 + index)", on: auctionID, fields: fields).status == 201)
            }
            var events: [Received] = []
            for _ in fields { events.append(try watcher.next()) }
            for event in events.dropLast() { #expect(event.json["traceparent"] == nil) }
            let carried = try #require(events[3].json["traceparent"] as? String)
            let parts = carried.split(separator: "-").map(String.init)
            #expect(parts[1] == trace && parts[3] == "01")

            try eventually("the gateway's span") { try !Self.spans(files[1], of: trace).isEmpty }
            try eventually("all spans of the bid API") { try Self.spans(files[0], of: trace).count == 4 }
            let spans = try files.flatMap { try Self.spans($0, of: trace) }
            let bid = try #require(spans.first { $0.name == "POST /api/v1/auctions/{id}/bids" })
            #expect(bid.parent == caller, "the bid continues its caller's trace")
            #expect(bid.span == parts[2], "the event names the bid's span")
            for name in ["transaction", "commit", "publish", "deliver"] {
                let step = spans.filter { $0.name == name }
                #expect(step.map(\.parent) == [bid.span], "\(name)")
                #expect(step.map(\.service) == [name == "deliver" ? "gateway" : "bidapi"], "\(name)")
            }
            #expect(gateway.process.log.contains("delivered a traced event"))
            #expect(gateway.process.log.contains(trace) && api.process.log.contains(trace))
        }
    }
}
