// A strict parser of HTTP/1.1 request heads (RFC 9112). It reads a complete head in one pass and keeps byte
// ranges instead of copies, because most heads are read once, answered and forgotten. It never decodes, never
// allocates and never guesses: what two implementations could read differently is refused.

/// A range of bytes in the head it was parsed from; empty when the field was absent.
package struct HeadRange: Sendable, Equatable {
    package let start: UInt16
    package let count: UInt16

    package static let none = HeadRange(0..<0)

    package init(_ range: Range<Int>) {
        start = UInt16(range.lowerBound)
        count = UInt16(range.count)
    }

    package var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
    package var isEmpty: Bool { count == 0 }
}

/// The parsed head of one request. Ranges refer to the bytes that were given to ``parse(_:)``.
package struct RequestHead: Sendable {
    package enum Method: Sendable {
        case get, head, options, post, other
    }

    /// Why a head is refused; the connection is closed after the answer.
    package enum Fault: Error, Equatable, Sendable {
        /// 400
        case malformed
        /// 431: more bytes than allowed, or more than ``RequestHead/maximumFields``.
        case tooLarge
        /// 414: a request target of more than ``RequestHead/maximumTargetBytes``.
        case targetTooLong
    }

    package enum Outcome: Sendable {
        case incomplete
        /// The head and how many bytes it took; what follows belongs to the next protocol step.
        case complete(RequestHead, consumed: Int)
        case refused(Fault)
    }

    /// Unless the caller says otherwise.
    package static let maximumBytes = 8_192
    package static let maximumTargetBytes = 4_096
    package static let maximumFields = 64
    /// At most this many bytes of empty lines are skipped before a request (RFC 9112, 2.2). Some clients send
    /// them after a body.
    private static let maximumBlankBytes = 8

    package var method = Method.other
    package var isHTTP10 = false
    /// Without the query and its `?`.
    package var path = HeadRange.none
    package var query = HeadRange.none
    package var host = HeadRange.none
    package var origin = HeadRange.none
    package var authorization = HeadRange.none
    package var lastEventID = HeadRange.none
    package var ifNoneMatch = HeadRange.none
    package var webSocketKey = HeadRange.none
    package var webSocketVersion = HeadRange.none
    /// The first of the fields that offer extensions.
    package var webSocketExtensions = HeadRange.none
    package var contentLength: UInt64 = 0
    /// True when the body is chunked, the only transfer coding that this parser understands.
    package var isChunked = false
    /// True when the client waits for "100 Continue" before it sends the body.
    package var expectsContinue = false
    /// The `X-Forwarded-For` fields, in the order of their lines. Together they form one list.
    package var forwardedFor: [HeadRange] = []
    /// True when the request has an `Origin` field, even an empty one.
    package var hasOrigin = false
    package var upgradesToWebSocket = false
    /// Whether the client names server-sent events as a representation it takes.
    package var acceptsEventStream = false
    package var acceptsGzip = false
    /// Whether the client names OpenMetrics as a representation it takes.
    package var acceptsOpenMetrics = false
    package var connectionUpgrade = false
    package var connectionClose = false
    package var connectionKeepAlive = false

    /// Whether the client asks for a WebSocket (RFC 6455, 4.2.1, apart from key and version).
    package var wantsWebSocket: Bool { upgradesToWebSocket && connectionUpgrade && !isHTTP10 }
    package var hasBody: Bool { contentLength > 0 || isChunked }
    package var keepsAlive: Bool { isHTTP10 ? connectionKeepAlive && !connectionClose : !connectionClose }

    private var hasHost = false
    /// True when the target names a host, which then replaces the `Host` field.
    private var isAbsolute = false
    private var hasContentLength = false

    private init() {}

    /// Parses the head at the beginning of `bytes`.
    /// - Parameter maximumBytes: the longest head, at most 65,535.
    package static func parse(_ bytes: Span<UInt8>, maximumBytes: Int = maximumBytes) -> Outcome {
        // Empty lines before the request (RFC 9112, 2.2).
        var start = 0
        while start < maximumBlankBytes, start < bytes.count, bytes[start] == 0x0D {
            guard start + 1 < bytes.count else { return .incomplete }
            guard bytes[start + 1] == 0x0A else { return .refused(.malformed) }
            start += 2
        }
        // A head cannot begin with a byte that no method contains. Answer at once, for example to TLS on a
        // plain port.
        if start < bytes.count, !isToken(bytes[start]) { return .refused(.malformed) }
        let end: Int
        switch endOfHead(bytes, from: start, maximumBytes: maximumBytes) {
        case .found(let index): end = index
        case .damaged: return .refused(.malformed)
        case .missing: return bytes.count >= maximumBytes ? .refused(.tooLarge) : .incomplete
        }
        var head = RequestHead()
        do throws(Fault) {
            try head.parseLines(bytes, from: start, end: end - 2)
        } catch {
            return .refused(error)
        }
        return .complete(head, consumed: end)
    }

    /// Whether nothing but line ends is there, which begin no request.
    package static func isOnlyLineEnds(_ bytes: Span<UInt8>) -> Bool {
        for index in 0..<bytes.count where bytes[index] != 0x0D && bytes[index] != 0x0A { return false }
        return true
    }

    private enum End {
        case found(Int)
        case missing
        /// The head has a forbidden control byte, or a line end that is not CR LF. The rest could be read in
        /// two ways, and the end might never come.
        case damaged
    }

    private static func endOfHead(_ bytes: Span<UInt8>, from start: Int, maximumBytes: Int) -> End {
        let limit = min(bytes.count, maximumBytes)
        guard start < limit else { return .missing }
        for index in start..<limit {
            let byte = bytes[index]
            guard byte < 0x20 || byte == 0x7F, byte != 0x09 else { continue }
            let followsReturn = index > 0 && bytes[index - 1] == 0x0D
            switch byte {
            case 0x0D:
                if followsReturn || index + 1 < bytes.count && bytes[index + 1] != 0x0A { return .damaged }
            case 0x0A:
                guard followsReturn else { return .damaged }
                if index >= start + 3, bytes[index - 2] == 0x0A { return .found(index + 1) }
            default: return .damaged
            }
        }
        return .missing
    }

    private mutating func parseLines(_ bytes: Span<UInt8>, from start: Int, end: Int) throws(Fault) {
        var lineStart = start
        var lines = 0
        while lineStart < end {
            var lineEnd = lineStart
            while bytes[lineEnd] != 0x0D {
                guard bytes[lineEnd] != 0x0A else { throw .malformed }
                lineEnd += 1
            }
            guard bytes[lineEnd + 1] == 0x0A else { throw .malformed }
            if lines == 0 {
                try parseRequestLine(bytes, lineStart..<lineEnd)
            } else {
                try parseField(bytes, lineStart..<lineEnd)
            }
            lines += 1
            guard lines <= Self.maximumFields + 1 else { throw .tooLarge }
            lineStart = lineEnd + 2
        }
        guard isHTTP10 || hasHost else { throw .malformed }
        // An HTTP/1.0 client does not understand "100 Continue" (RFC 9110, 10.1.1).
        if isHTTP10 { expectsContinue = false }
        guard isChunked else { return }
        // Two framings in one request allow request smuggling (RFC 9112, 6.3). An HTTP/1.0 server does not
        // know chunks. A body has no meaning for these methods.
        let forbidsBody = method == .get || method == .head || method == .options
        guard !hasContentLength, !isHTTP10, !forbidsBody else { throw .malformed }
    }

    private mutating func parseRequestLine(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(Fault) {
        var index = line.lowerBound
        while index < line.upperBound, bytes[index] != 0x20 {
            guard Self.isToken(bytes[index]) else { throw .malformed }
            index += 1
        }
        guard index > line.lowerBound, index < line.upperBound else { throw .malformed }
        method = Self.method(bytes, line.lowerBound..<index)
        let targetStart = index + 1
        index = targetStart
        while index < line.upperBound, bytes[index] != 0x20 {
            guard bytes[index] > 0x20, bytes[index] < 0x7F else { throw .malformed }
            index += 1
        }
        guard index > targetStart else { throw .malformed }
        guard index - targetStart <= Self.maximumTargetBytes else { throw .targetTooLong }
        if bytes.hasText("HTTP/1.0", at: index + 1, end: line.upperBound) {
            isHTTP10 = true
        } else if !bytes.hasText("HTTP/1.1", at: index + 1, end: line.upperBound) {
            throw .malformed
        }
        try parseTarget(bytes, targetStart..<index)
    }

    private mutating func parseTarget(_ bytes: Span<UInt8>, _ target: Range<Int>) throws(Fault) {
        // A fragment is the client's own business and is never sent.
        for index in target where bytes[index] == UInt8(ascii: "#") { throw .malformed }
        var start = target.lowerBound
        if bytes[start] != UInt8(ascii: "/") {
            // `*` goes with OPTIONS.
            if method == .options, target.count == 1, bytes[start] == UInt8(ascii: "*") {
                path = HeadRange(target)
                return
            }
            start = try parseAuthority(bytes, target)
            guard start < target.upperBound, bytes[start] == UInt8(ascii: "/") else {
                // An empty path means `/` (RFC 9110, 4.2.3). Use the second of the two slashes before the
                // host.
                path = HeadRange(host.range.lowerBound - 1..<host.range.lowerBound)
                if start < target.upperBound { query = HeadRange(start + 1..<target.upperBound) }
                return
            }
        }
        var end = start
        while end < target.upperBound, bytes[end] != UInt8(ascii: "?") { end += 1 }
        path = HeadRange(start..<end)
        if end < target.upperBound { query = HeadRange(end + 1..<target.upperBound) }
    }

    /// Reads `http://host` off a target in absolute form (RFC 9112, 3.2.2); its host stands for the `Host`
    /// field. Returns where the path, or the query, begins.
    private mutating func parseAuthority(_ bytes: Span<UInt8>, _ target: Range<Int>) throws(Fault) -> Int {
        var start = target.lowerBound
        if bytes.hasPrefixIgnoringCase("http://", target) {
            start += 7
        } else if bytes.hasPrefixIgnoringCase("https://", target) {
            start += 8
        } else {
            throw .malformed
        }
        var end = start
        while end < target.upperBound, bytes[end] != UInt8(ascii: "/"), bytes[end] != UInt8(ascii: "?") {
            guard Self.isHostByte(bytes[end]) else { throw .malformed }
            end += 1
        }
        guard end > start else { throw .malformed }
        host = HeadRange(start..<end)
        isAbsolute = true
        return end
    }

    private mutating func parseField(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(Fault) {
        var index = line.lowerBound
        while index < line.upperBound, bytes[index] != UInt8(ascii: ":") {
            guard Self.isToken(bytes[index]) else { throw .malformed }
            index += 1
        }
        guard index > line.lowerBound, index < line.upperBound else { throw .malformed }
        let name = line.lowerBound..<index
        var value = index + 1..<line.upperBound
        while let first = value.first, Self.isBlank(bytes[first]) { value.removeFirst() }
        while let last = value.last, Self.isBlank(bytes[last]) { value.removeLast() }
        for index in value where bytes[index] < 0x20 && bytes[index] != 0x09 || bytes[index] == 0x7F {
            throw .malformed
        }
        try keep(name, value, bytes)
    }

    private mutating func keep(_ name: Range<Int>, _ value: Range<Int>, _ bytes: Span<UInt8>) throws(Fault) {
        switch name.count {
        case 4 where bytes.equalsIgnoringCase("host", name):
            guard !hasHost else { throw .malformed }
            for index in value where !Self.isHostByte(bytes[index]) { throw .malformed }
            hasHost = true
            if !isAbsolute { host = HeadRange(value) }
        case 6 where bytes.equalsIgnoringCase("expect", name):
            if bytes.equalsIgnoringCase("100-continue", value) { expectsContinue = true }
        case 6 where bytes.equalsIgnoringCase("origin", name):
            guard !hasOrigin else { throw .malformed }
            hasOrigin = true
            origin = HeadRange(value)
        case 6 where bytes.equalsIgnoringCase("accept", name):
            if bytes.acceptsMediaType("text/event-stream", value) { acceptsEventStream = true }
            if bytes.acceptsMediaType("application/openmetrics-text", value) { acceptsOpenMetrics = true }
        case 7 where bytes.equalsIgnoringCase("upgrade", name):
            if bytes.listContains("websocket", value) { upgradesToWebSocket = true }
        case 10 where bytes.equalsIgnoringCase("connection", name):
            if bytes.listContains("upgrade", value) { connectionUpgrade = true }
            if bytes.listContains("close", value) { connectionClose = true }
            if bytes.listContains("keep-alive", value) { connectionKeepAlive = true }
        case 13 where bytes.equalsIgnoringCase("if-none-match", name):
            if ifNoneMatch.isEmpty { ifNoneMatch = HeadRange(value) }
        case 13 where bytes.equalsIgnoringCase("authorization", name): try once(&authorization, value)
        case 13 where bytes.equalsIgnoringCase("last-event-id", name): try once(&lastEventID, value)
        case 14 where bytes.equalsIgnoringCase("content-length", name): try keepContentLength(value, bytes)
        case 15 where bytes.equalsIgnoringCase("accept-encoding", name):
            if bytes.acceptsMediaType("gzip", value) { acceptsGzip = true }
        case 15 where bytes.equalsIgnoringCase("x-forwarded-for", name): forwardedFor.append(HeadRange(value))
        case 17 where bytes.equalsIgnoringCase("transfer-encoding", name):
            guard !isChunked, bytes.equalsIgnoringCase("chunked", value) else { throw .malformed }
            isChunked = true
        case 17 where bytes.equalsIgnoringCase("sec-websocket-key", name): try once(&webSocketKey, value)
        case 21 where bytes.equalsIgnoringCase("sec-websocket-version", name):
            try once(&webSocketVersion, value)
        case 24 where bytes.equalsIgnoringCase("sec-websocket-extensions", name):
            if webSocketExtensions.isEmpty { webSocketExtensions = HeadRange(value) }
        default: break
        }
    }

    private func once(_ field: inout HeadRange, _ value: Range<Int>) throws(Fault) {
        guard field.isEmpty else { throw .malformed }
        field = HeadRange(value)
    }

    private mutating func keepContentLength(_ value: Range<Int>, _ bytes: Span<UInt8>) throws(Fault) {
        guard !hasContentLength, (1...15).contains(value.count) else { throw .malformed }
        for index in value {
            guard bytes[index] >= UInt8(ascii: "0"), bytes[index] <= UInt8(ascii: "9") else {
                throw .malformed
            }
            contentLength = contentLength * 10 + UInt64(bytes[index] - UInt8(ascii: "0"))
        }
        hasContentLength = true
    }

    private static func method(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Method {
        if bytes.hasText("GET", at: range.lowerBound, end: range.upperBound) { return .get }
        if bytes.hasText("HEAD", at: range.lowerBound, end: range.upperBound) { return .head }
        if bytes.hasText("OPTIONS", at: range.lowerBound, end: range.upperBound) { return .options }
        if bytes.hasText("POST", at: range.lowerBound, end: range.upperBound) { return .post }
        return .other
    }

    /// What a host and port consist of (RFC 3986, 3.2.2); nothing that begins another part of an address.
    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "/"), UInt8(ascii: "@"), UInt8(ascii: "?"), UInt8(ascii: "#"), UInt8(ascii: "\\"):
            false
        case ...0x20, 0x7F...: false
        default: true
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    /// RFC 9110, 5.6.2.
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "#")...UInt8(ascii: "'"), UInt8(ascii: "!"),
            UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"),
            UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
