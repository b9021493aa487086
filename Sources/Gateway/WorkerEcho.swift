// The echo path (off unless it is set): conformance suites get their messages and request bodies back.

import Fanout
import Telemetry
import Wire

/// A request whose body is to come back.
struct EchoBody {
    var body: RequestBody
    let keepsAlive: Bool
    let isForHead: Bool
}

extension Worker {
    /// Answers a request to the echo path.
    func echo(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) {
        if head.wantsWebSocket {
            guard !head.hasBody else {
                return respond(
                    slot, .error(.badRequest, "BAD_REQUEST", "a handshake has no body"), keepAlive: false)
            }
            if upgrade(slot, head, bytes) { scheduleEchoHeartbeat(slot) }
            return
        }
        guard let body = RequestBody(head, maximumBytes: Limits.echoBodyBytes) else {
            return refuseBody(slot)
        }
        if head.hasBody, head.expectsContinue { sendBytes(slot, HTTPResponse.goOn) }
        slab[slot].phase = .readingBody
        schedule(slot, seconds: Limits.bodyTimeoutSeconds)
        bodies[slot] = EchoBody(
            body: body, keepsAlive: head.keepsAlive && drainStartedAt == nil, isForHead: head.method == .head)
        // There may be none, and then no further byte comes to end it.
        guard !head.hasBody else { return }
        finishEcho(slot)
    }

    /// Takes in more of a request's body; returns how many bytes belong to it.
    func readBody(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int {
        // SAFETY: the span is used within this call, while the caller keeps `bytes`.
        let span = bytes.bindMemory(to: UInt8.self).span
        switch bodies[slot]?.body.take(span) {
        case .more(let consumed): return consumed
        case .complete(let consumed):
            finishEcho(slot)
            return consumed
        case .tooLarge: refuseBody(slot)
        case .malformed, nil:
            handle.counters.refusedHeads.add()
            respond(
                slot, .error(.badRequest, "BAD_REQUEST", "the request's body is malformed"), keepAlive: false)
        }
        return bytes.count
    }

    private func finishEcho(_ slot: UInt32) {
        guard let echo = bodies.removeValue(forKey: slot) else { return }
        slab[slot].phase = .readingHead
        let response = HTTPResponse(
            .ok, fields: [("Content-Type", "application/octet-stream")], body: echo.body.bytes)
        respond(slot, response, keepAlive: echo.keepsAlive, withBody: !echo.isForHead)
    }

    private func refuseBody(_ slot: UInt32) {
        respond(
            slot,
            .error(
                .contentTooLarge, "CONTENT_TOO_LARGE", "a body may have \(Limits.echoBodyBytes) bytes here"),
            keepAlive: false)
    }
}
