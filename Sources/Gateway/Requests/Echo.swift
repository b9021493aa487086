// The echo path (off unless it is set): conformance suites get their messages and request bodies back.

import Compression
import Fanout
import LiveProtocol
import Telemetry
import Wire

enum Echo {
    static func decide(_ head: RequestHead, _ bytes: Span<UInt8>, deflates: Bool) -> RequestDecision {
        guard head.wantsWebSocket else { return .echo }
        guard !head.hasBody else {
            return .respondAndClose(.error(.badRequest, "BAD_REQUEST", "a handshake has no body"))
        }
        do throws(LiveRefusal) {
            return .echoSocket(try WebSocketUpgrade(head, bytes, deflates: deflates))
        } catch {
            return .refuse(error.response, isTokenFault: false)
        }
    }
}

extension Requests {
    /// Begins to read the body that is to be sent back.
    func beginEcho(_ slot: UInt32, _ head: RequestHead, _ input: inout PartialInput) {
        guard let body = RequestBody(head, maximumBytes: Limits.echoBodyBytes) else {
            return refuseBody(slot)
        }
        if head.hasBody, head.expectsContinue {
            connections.settle(output.send(HTTPResponse.goOn, over: slot), of: slot)
        }
        connections.transition(slot, to: .readingBody)
        connections.schedule(slot, seconds: Limits.bodyTimeoutSeconds)
        input.body = BodyInput(
            body: body, keepsAlive: head.keepsAlive, isForHead: head.method == .head)
        // Without a body, no further byte arrives that would end the request.
        if !head.hasBody { finishEcho(slot, &input) }
    }

    func takeBody(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int {
        // SAFETY: the span is used within this call, while the caller keeps `bytes`.
        let span = bytes.bindMemory(to: UInt8.self).span
        switch input.body?.body.take(span) {
        case .more(let consumed): return consumed
        case .complete(let consumed):
            finishEcho(slot, &input)
            return consumed
        case .tooLarge: refuseBody(slot)
        case .malformed, nil:
            context.counters.refusedHeads.add()
            respond(
                to: slot, .error(.badRequest, "BAD_REQUEST", "the request's body is malformed"),
                keepsAlive: false)
        }
        input.body = nil
        return bytes.count
    }

    private func finishEcho(_ slot: UInt32, _ input: inout PartialInput) {
        guard let echo = input.body else { return }
        input.body = nil
        connections.transition(slot, to: .readingHead)
        let response = HTTPResponse(
            .ok, fields: [("Content-Type", "application/octet-stream")], body: echo.body.bytes)
        respond(
            to: slot, response, keepsAlive: echo.keepsAlive && !context.isDraining,
            withBody: !echo.isForHead)
    }

    private func refuseBody(_ slot: UInt32) {
        respond(
            to: slot,
            .error(
                .contentTooLarge, "CONTENT_TOO_LARGE", "the body is over \(Limits.echoBodyBytes) bytes"),
            keepsAlive: false)
    }

    /// Sends a message back, compressed where the client takes that.
    func echo(_ slot: UInt32, _ opcode: WebSocketOpcode, _ payload: ArraySlice<UInt8>) {
        let bits = Int(connections[slot].deflateBits)
        guard bits > 0, payload.count >= LiveLimits.leastDeflatedBytes else {
            return connections.settle(
                output.send(WebSocketFrame.encode(opcode, payload), over: slot), of: slot)
        }
        let deflater =
            connections[slot].takesSharedDeflate
            ? output.deflater : MessageDeflater(windowBits: bits)
        let frame = WebSocketFrame.encode(opcode, deflater.compress(payload), isCompressed: true)
        connections.settle(output.send(frame, over: slot), of: slot)
    }
}
