import Fanout
import LiveProtocol
import Testing
import Wire

@testable import Gateway

/// What is decided about a head, as values.
@Suite struct LiveDecisionTests {
    private func decide(
        _ target: String, _ fields: String = "", method: String = "GET", origins: [String] = [],
        requiresToken: Bool = false
    ) throws -> RequestDecision {
        let bytes = Array("\(method) \(target) HTTP/1.1\r\nHost: here\r\n\(fields)\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(bytes.span, maximumBytes: 8_192) else {
            throw ParseFailure()
        }
        let address = try #require(LiveAddress(bytes.span.text(head.path)))
        return LiveDecision.decide(
            head, bytes.span, address,
            RequestRules(
                origins: origins, requiresToken: requiresToken, tokenKeys: nil, deflates: true, now: 0))
    }

    private struct ParseFailure: Error {}

    private func status(_ decision: RequestDecision) -> Int? {
        switch decision {
        case .respond(let response), .respondAndClose(let response), .refuse(let response, _):
            response.status.rawValue
        case .watch, .administer, .echo, .echoSocket: nil
        }
    }

    private static let upgrade =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    @Test("the carrier follows from the head: WebSocket, event stream, else long-poll")
    func carriers() throws {
        let path = "/v1/auctions/a/live"
        guard case .watch(let socket) = try decide(path, Self.upgrade), case .webSocket = socket.carrier,
            case .watch(let stream) = try decide(path, "Accept: text/event-stream\r\n"),
            case .eventStream = stream.carrier,
            case .watch(let poll) = try decide(path + "?timeout=100"),
            case .longPoll(seconds: 60) = poll.carrier
        else {
            Issue.record("a carrier is wrong")
            return
        }
    }

    @Test("a client may ask for heartbeats within 5 to 60 s, and for messages without compression")
    func wishes() throws {
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        for (query, seconds, deflates) in [
            ("", 0, true), ("?heartbeat=7", 7, true), ("?heartbeat=1", 5, true), ("?heartbeat=900", 60, true),
            ("?compression=none", 0, false), ("?compression=some", 0, true),
        ] {
            guard case .watch(let request) = try decide("/v1/live" + query, Self.upgrade + deflate),
                case .webSocket(let upgrade) = request.carrier
            else {
                Issue.record("no WebSocket for \(query)")
                return
            }
            #expect(request.heartbeatSeconds == seconds && (upgrade.deflateBits > 0) == deflates, "\(query)")
        }
    }

    @Test("Last-Event-ID is stronger than since on an event stream, and means nothing elsewhere")
    func cursors() throws {
        let id = "Last-Event-ID: 9\r\n"
        guard
            case .watch(let stream) = try decide(
                "/v1/auctions/a/live?since=3", "Accept: text/event-stream\r\n" + id),
            case .auction(_, since: 9) = stream.target,
            case .watch(let poll) = try decide("/v1/auctions/a/live?since=3", id),
            case .auction(_, since: 3) = poll.target
        else {
            Issue.record("a cursor is wrong")
            return
        }
        #expect(status(try decide("/v1/auctions/a/live?since=x")) == 400)
    }

    @Test("own host, listed origins, or any origin with * may watch; so may a request without Origin")
    func origins() throws {
        let path = "/v1/auctions/a/live"
        for (origin, origins, isAllowed) in [
            ("http://here", [], true), ("https://here", [], true), ("https://other", [], false),
            ("https://other", ["https://other"], true), ("null", ["https://other"], false),
            ("null", ["*"], true),
        ] as [(String, [String], Bool)] {
            let decision = try decide(path, "Origin: \(origin)\r\n", origins: origins)
            #expect((status(decision) != 403) == isAllowed, "\(origin) of \(origins)")
        }
        #expect(status(try decide(path)) == nil)
    }

    @Test("a token is needed for private auctions, for users, and everywhere when it is required")
    func tokens() throws {
        #expect(status(try decide("/v1/auctions/prv_a/live")) == 401)
        #expect(status(try decide("/v1/users/me/live", Self.upgrade)) == 401)
        #expect(status(try decide("/v1/auctions/a/live", requiresToken: true)) == 401)
        #expect(status(try decide("/v1/live", Self.upgrade, requiresToken: true)) == 401)
        guard case .refuse(_, isTokenFault: true) = try decide("/v1/auctions/a/live?token=rubbish") else {
            Issue.record("a malformed token is the token's fault")
            return
        }
    }

    @Test("methods, handshakes and parameters that are wrong have their own status")
    func refusals() throws {
        let path = "/v1/auctions/a/live"
        #expect(status(try decide(path, method: "POST")) == 405)
        #expect(status(try decide(path, method: "HEAD")) == 200)
        #expect(status(try decide(path, method: "OPTIONS")) == 204)
        #expect(status(try decide("/v1/auctions/a.b/live")) == 400)
        #expect(status(try decide(path, Self.upgrade.replacing("13", with: "8"))) == 426)
        #expect(status(try decide(path, Self.upgrade.replacing("dGhl", with: "!"))) == 400)
        #expect(status(try decide("/v1/live")) == 400)
        #expect(status(try decide("/v1/live?auctions=a&since=b:x")) == 400)
        #expect(status(try decide("/v1/users/me/live?heartbeat=9", Self.upgrade)) == 401)
        #expect(status(try decide(path + "?heartbeat=often", Self.upgrade)) == 400)
        #expect(status(try decide("/v1/live", "Accept: text/event-stream\r\n")) == 400)
        #expect(status(try decide(path + "?timeout=soon")) == 400)
    }
}
