import AuctionEvents
import Foundation
import Telemetry
import Testing

@Suite struct SpanFileTests {
    private static func span() throws -> TraceSpan {
        let parent = try #require(TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
        return TraceSpan(
            parent.child(), parentID: parent.spanID, "a \"step\"", .producer, from: 2_000, to: 1_000,
            [("auction", .text("a\\1")), ("seq", .number(7))], hasFailed: true)
    }

    private static func path() -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("spans-\(UUID().uuidString)").path
    }

    @Test("each span is a line of OTLP's JSON, and appending survives a rotation")
    func lines() throws {
        let path = Self.path()
        let rotated = path + ".1"
        defer { for path in [path, rotated] { try? FileManager.default.removeItem(atPath: path) } }
        let file = SpanFile(path: path, service: "gavelcast-test", version: "1")
        let first = try Self.span()
        file.write(first)
        file.write(try Self.span())
        file.flush()
        try FileManager.default.moveItem(atPath: path, toPath: rotated)
        file.write(try Self.span())
        file.flush()
        #expect(file.dropped == 0)
        #expect(try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").count == 1)
        let lines = try String(contentsOfFile: rotated, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 2)
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
        let resource = try #require((object["resourceSpans"] as? [[String: Any]])?.first)
        #expect("\(resource["resource"] ?? "")".contains("gavelcast-test"))
        let scope = try #require((resource["scopeSpans"] as? [[String: Any]])?.first)
        let span = try #require((scope["spans"] as? [[String: Any]])?.first)
        #expect(span["traceId"] as? String == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(span["parentSpanId"] as? String == "00f067aa0ba902b7")
        #expect(span["spanId"] as? String == first.context.spanIDText)
        #expect(span["name"] as? String == "a \"step\"" && span["kind"] as? Int == 4)
        // A clock that was set back makes no negative duration.
        #expect(span["startTimeUnixNano"] as? String == "2000000")
        #expect(span["endTimeUnixNano"] as? String == "2000000")
        #expect((span["status"] as? [String: Any])?["code"] as? Int == 2)
        let attributes = try #require(span["attributes"] as? [[String: Any]])
        #expect((attributes[0]["value"] as? [String: Any])?["stringValue"] as? String == "a\\1")
        #expect((attributes[1]["value"] as? [String: Any])?["intValue"] as? String == "7")
    }

    @Test("an unwritable file is reported at start-up; later, it only costs spans")
    func unwritable() throws {
        let path = "/nowhere/spans"
        #expect(SpanFile.fault(path)?.contains("'/nowhere/spans' cannot be written") == true)
        let absent = Self.path()
        #expect(SpanFile.fault(absent) == nil && !FileManager.default.fileExists(atPath: absent))
        let file = SpanFile(path: path, service: "gavelcast-test", version: "1")
        file.write(try Self.span())
        file.flush()
        #expect(file.dropped == 1)
    }
}
