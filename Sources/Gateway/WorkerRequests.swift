// A worker's plain HTTP side: request heads, where they lead, and the answers.

import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Reads a head at the beginning of `bytes`; returns how many bytes it took, 0 when it is not complete.
    func readHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int {
        // SAFETY: the span is used within this call, while the caller keeps `bytes`.
        let span = bytes.bindMemory(to: UInt8.self).span
        switch RequestHead.parse(span, maximumBytes: configuration.maxHeadBytes) {
        case .incomplete: return 0
        case .refused(let fault):
            handle.counters.refusedHeads.add()
            respond(slot, response(to: fault), keepAlive: false)
            return bytes.count
        case .complete(let head, let consumed):
            slab[slot].flags.remove(.isIdle)
            let path = span.text(head.path)
            guard mayCheckToken(slot, head, span) else { return 0 }
            handle.counters.requests.add()
            if slab[slot].flags.contains(.isAdmin) {
                answerAdmin(slot, head, span, path: path)
            } else {
                recogniseClient(slot, head, span)
                let isEcho = !configuration.echoPath.isEmpty && path == configuration.echoPath
                if isEcho { echo(slot, head, span) } else { answer(slot, head, span, path: path) }
            }
            return consumed
        }
    }

    /// Whether a request's token may be checked in this turn. A crowd's signatures would hold up the fan-out:
    /// beyond the turn's budget the request is kept and read again in the next.
    private func mayCheckToken(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) -> Bool {
        let hasToken =
            !head.authorization.isEmpty || !head.query.isEmpty && bytes.text(head.query).contains("token=")
        guard hasToken, configuration.tokenKeys != nil else { return true }
        guard signatureBudget > 0 else {
            handle.counters.deferredTokens.add()
            // Nothing more is read of it meanwhile.
            slab[slot].flags.insert(.isDeferred)
            keptInput.append(token(slot))
            return false
        }
        signatureBudget -= 1
        return true
    }

    private func response(to fault: RequestHead.Fault) -> HTTPResponse {
        switch fault {
        case .malformed: .error(.badRequest, "BAD_REQUEST", "the request's head is malformed")
        case .tooLarge:
            .error(
                .headTooLarge, "HEAD_TOO_LARGE",
                "the request's head is over \(configuration.maxHeadBytes) bytes or \(RequestHead.maximumFields) fields"
            )
        case .targetTooLong:
            .error(
                .targetTooLong, "TARGET_TOO_LONG",
                "the request's target is over \(RequestHead.maximumTargetBytes) bytes")
        }
    }

    private func answer(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, path: String) {
        let isRead = head.method == .get || head.method == .head || head.method == .options
        guard !head.hasBody || !isRead else {
            return respond(
                slot, .error(.contentTooLarge, "CONTENT_TOO_LARGE", "requests have no body here"),
                keepAlive: false)
        }
        if let address = LiveAddress(path) { return answerLive(slot, head, bytes, address) }
        let match = bytes.text(head.ifNoneMatch)
        guard let page = shared.pages.page(path, acceptsGzip: head.acceptsGzip, ifNoneMatch: match) else {
            return respond(slot, .error(.notFound, "NOT_FOUND", "there is nothing at this address"), head)
        }
        switch head.method {
        case .get, .head: respond(slot, page, head)
        case .options:
            respond(slot, HTTPResponse(.noContent, fields: [("Allow", "GET, HEAD, OPTIONS")]), head)
        case .post, .other: respondMethodNotAllowed(slot, head, allow: "GET, HEAD, OPTIONS")
        }
    }

    // MARK: Answers

    /// The present time as responses carry it, made once a second.
    func httpDate() -> String {
        let seconds = Clock.wallMilliseconds() / 1_000
        if seconds != dateSeconds {
            dateSeconds = seconds
            dateText = HTTPDate.text(seconds: seconds)
        }
        return dateText
    }

    func respondMethodNotAllowed(_ slot: UInt32, _ head: RequestHead, allow: String) {
        respond(
            slot,
            .error(
                .methodNotAllowed, "METHOD_NOT_ALLOWED", "allowed here: \(allow)", fields: [("Allow", allow)]),
            head)
    }

    /// Answers a request, and keeps the connection where the client wants that and its body was read.
    func respond(_ slot: UInt32, _ response: HTTPResponse, _ head: RequestHead) {
        let keepAlive = head.keepsAlive && !head.hasBody && drainStartedAt == nil
        respond(slot, response, keepAlive: keepAlive, withBody: head.method != .head)
    }

    func respond(_ slot: UInt32, _ response: HTTPResponse, keepAlive: Bool, withBody: Bool = true) {
        var response = response
        var keepAlive = keepAlive
        if let refusal = refusal(slot) {
            if refusal.status == .serviceUnavailable, drainStartedAt == nil {
                handle.counters.overCapacity.add()
            }
            // A page of another origin is to learn of it too.
            let forPage = response.fields.filter { $0.name.hasPrefix("Access-Control-") || $0.name == "Vary" }
            response = refusal
            response.fields += forPage
            keepAlive = false
        }
        // A client that sends requests and reads no answers gets this one more.
        if slab[slot].flags.contains(.hasBacklog) { keepAlive = false }
        sendBytes(slot, response.encoded(keepAlive: keepAlive, withBody: withBody, date: httpDate()))
        if keepAlive {
            slab[slot].flags.insert(.isIdle)
            schedule(slot, seconds: configuration.keepAliveSeconds)
        } else {
            closeAfterFlush(slot)
        }
    }
}
