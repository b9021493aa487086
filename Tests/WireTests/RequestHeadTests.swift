import TestSupport
import Testing
import Wire

@Suite struct RequestHeadTests {
    private let upgrade =
        "GET /v1/auctions/a1/live?since=5&x=%41 HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: WebSocket\r\n"
        + "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        + "Sec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n\r\n"

    private func parse(_ text: String) -> RequestHead.Outcome {
        RequestHead.parse(Array(text.utf8).span)
    }

    private func fault(_ text: String) -> RequestHead.Fault? {
        if case .refused(let fault) = parse(text) { fault } else { nil }
    }

    @Test("a query's values are found by name and decoded; what cannot be decoded stands as it is")
    func queries() {
        let query = "&&a=1&b=x%2By+z&c&=5&aa=2&d=%zz&e=%+f&f=%C3%A9&g=%ff&a=3&h=1=2&i=%4"
        let expected = [
            "a": "1", "b": "x+y z", "c": "", "aa": "2", "d": "%zz", "e": "%+f", "f": "\u{E9}", "g": "%ff",
            "h": "1=2", "i": "%4",
        ]
        for (name, value) in expected { #expect(QueryString.value(name, in: query) == value, "\(name)") }
        #expect(QueryString.value("x", in: query) == nil && QueryString.value("a", in: "") == nil)
    }

    @Test("a WebSocket request is understood")
    func parsesUpgrade() throws {
        let bytes = Array((upgrade + "frames").utf8)
        guard case .complete(let head, let consumed) = RequestHead.parse(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(consumed == upgrade.utf8.count)
        #expect(head.method == .get && head.wantsWebSocket && head.keepsAlive && !head.hasBody)
        #expect(bytes.span.text(head.path) == "/v1/auctions/a1/live")
        #expect(QueryString.value("since", in: bytes.span.text(head.query)) == "5")
        #expect(QueryString.value("x", in: bytes.span.text(head.query)) == "A")
        #expect(bytes.span.text(head.host) == "example.com:8080")
        #expect(bytes.span.text(head.origin) == "http://example.com")
        #expect(bytes.span.text(head.webSocketVersion) == "13")
        let isValid = WebSocketHandshake.isValidKey(bytes.span, head.webSocketKey)
        #expect(isValid)
    }

    @Test(
        "a target in absolute form is taken, and its host stands for the field's",
        arguments: [
            ("http://other.example:81/v1/live?x=1", "other.example:81", "/v1/live", "x=1"),
            ("HTTPS://other.example/a", "other.example", "/a", ""), ("http://other", "other", "/", ""),
            ("http://[::1]:80?x=1", "[::1]:80", "/", "x=1"),
        ])
    func absoluteForm(target: String, host: String, path: String, query: String) {
        let bytes = Array("GET \(target) HTTP/1.1\r\nHost: example.com\r\n\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(bytes.span.text(head.host) == host && bytes.span.text(head.path) == path)
        #expect(bytes.span.text(head.query) == query)
    }

    @Test("empty lines before a request are passed over")
    func emptyLines() {
        let bytes = Array(("\r\n\r\n" + upgrade).utf8)
        guard case .complete(let head, let consumed) = RequestHead.parse(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(consumed == bytes.count && bytes.span.text(head.path) == "/v1/auctions/a1/live")
        for count in 0..<bytes.count {
            let prefix = Array(bytes[..<count])
            guard case .incomplete = RequestHead.parse(prefix.span) else {
                Issue.record("prefix of \(count) bytes was not incomplete")
                return
            }
        }
    }

    @Test(
        "what a cache and a compressor need is read",
        arguments: [("gzip, br", true), ("br;q=1, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false)])
    func encodings(text: String, accepts: Bool) {
        let bytes = Array(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: \(text)\r\nIf-None-Match: \"x\"\r\n\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(head.acceptsGzip == accepts && bytes.span.text(head.ifNoneMatch) == "\"x\"")
    }

    @Test("every proper prefix is incomplete, so input may be split anywhere")
    func splitsAtEachByte() {
        let bytes = Array(upgrade.utf8)
        for count in 0..<bytes.count {
            let prefix = Array(bytes[..<count])
            guard case .incomplete = RequestHead.parse(prefix.span) else {
                Issue.record("prefix of \(count) bytes was not incomplete")
                return
            }
        }
    }

    @Test(
        "what two servers could read differently is refused",
        arguments: [
            "GET / HTTP/1.1\nHost: a\n\n\r\n\r\n",  // bare line feeds
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",  // blank before the colon
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",  // folded line
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",  // no Host
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\u{0}b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n", "GET /\r\nHost: a\r\n\r\n", "GET\r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{7F} HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\n",  // refused at the line feed, not when the head's time is over
            "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\rX", "GET / HTTP/1.1\r\nHost: a\r\r\n",
            "GET / HTTP/1.1\r\nHost: a\u{0}",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/x HTTP/1.1\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n\r\n",
        ])
    func refusesMalformed(text: String) {
        #expect(fault(text) == .malformed)
    }

    @Test("a TLS hello on the plain port is refused at its first byte")
    func refusesBinary() {
        #expect(fault("\u{16}\u{3}") == .malformed)
    }

    @Test("heads over the limits are refused before they are complete")
    func boundsSize() {
        let long =
            "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "y", count: RequestHead.maximumBytes)
        #expect(fault(long) == .tooLarge)
        #expect(fault(long + "\r\n\r\n") == .tooLarge)
        let many = (0...RequestHead.maximumFields).map { "X\($0): y\r\n" }.joined()
        #expect(fault("GET / HTTP/1.1\r\nHost: a\r\n\(many)\r\n") == .tooLarge)
        let target = "/" + String(repeating: "t", count: RequestHead.maximumTargetBytes)
        #expect(fault("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n") == .targetTooLong)
    }

    @Test("HTTP/1.0 is understood")
    func parsesVariants() {
        let bytes = Array("GET /p?q HTTP/1.0\r\n\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(bytes.span) else {
            Issue.record("not complete")
            return
        }
        #expect(bytes.span.text(head.path) == "/p" && bytes.span.text(head.query) == "q")
        #expect(head.isHTTP10 && !head.keepsAlive && !head.wantsWebSocket)
    }

    @Test("random damage never traps, and what is accepted ends at the blank line")
    func survivesDamage() {
        var generator = SeededGenerator.announced("head damage")
        let base = Array(upgrade.utf8)
        for _ in 0..<20_000 {
            var bytes = base
            for _ in 0...Int.random(in: 0...3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
            }
            if case .complete(_, let consumed) = RequestHead.parse(bytes.span) {
                #expect(Array(bytes[(consumed - 4)..<consumed]) == Array("\r\n\r\n".utf8))
            }
        }
    }
}
