// What WebSocket clients say to a worker: frames, the few messages the gateway understands, and its answers.

import AuctionEvents
import Fanout
import Telemetry
import Wire

extension Worker {
    /// Handles the frame at `start`; returns how many bytes it took, 0 when it is not complete or the connection is
    /// done with.
    func readFrame(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from start: Int, _ input: inout Input
    ) -> Int {
        let isEcho = slab[slot].phase == .echoing
        let limit = isEcho ? Limits.echoMessageBytes : Limits.clientMessageBytes
        // SAFETY: the payload ranges of the steps lie in `bytes`, which the caller keeps for the length of this call.
        switch input.decoder.next(in: bytes, from: start, maximumMessageBytes: limit) {
        case .incomplete: return 0
        case .fragment(let consumed), .pong(let consumed): return consumed
        case .message(let isText, let payload, let consumed):
            takeMessage(
                slot, isText: isText, bytes[payload].withMemoryRebound(to: UInt8.self) { ArraySlice($0) })
            return consumed
        case .assembled(let isText, let payload, let consumed):
            takeMessage(slot, isText: isText, payload[...])
            return consumed
        case .ping(let payload, let consumed):
            if slab[slot].phase != .closing {
                sendControl(slot, WebSocketFrame.encode(.pong, Array(bytes[payload])))
            }
            return consumed
        case .close(let code, _):
            answerClose(slot, code)
            return bytes.count - start
        case .violation(let code):
            handle.counters.protocolErrors.add()
            closeViolator(slot, code)
            return bytes.count - start
        }
    }

    private func takeMessage(_ slot: UInt32, isText: Bool, _ payload: ArraySlice<UInt8>) {
        switch slab[slot].phase {
        case .echoing: sendMessage(slot, WebSocketFrame.encode(isText ? .text : .binary, payload))
        case .awaitingSnapshot, .watching:
            guard isText else {
                return beginClose(slot, CloseCode.unsupportedData, reason: "only text is understood")
            }
            answerMessage(slot, payload)
        case .free, .readingHead, .closing, .lingering: break
        }
    }

    private func answerMessage(_ slot: UInt32, _ payload: ArraySlice<UInt8>) {
        let message = Array(payload)
        var type: Range<Int>?
        var echo: ArraySlice<UInt8>?
        var scanner = JSONScanner()
        do throws(JSONScanner.Failure) {
            while let member = try scanner.next(in: message.span) {
                if message.span.matches("type", in: member.key), member.kind == .string {
                    type = member.value
                }
                if message.span.matches("t", in: member.key) {
                    echo =
                        member.kind == .string
                        ? message[member.value.lowerBound - 1...member.value.upperBound]
                        : message[member.value]
                }
            }
        } catch {
            return beginClose(slot, CloseCode.policyViolation, reason: "a message must be a JSON object")
        }
        if let type, message.span.matches("PING", in: type) {
            sendMessage(slot, EventEncoder.pong(echo: echo, serverTime: serverTime()))
        } else {
            sendMessage(slot, EventEncoder.error("UNKNOWN_TYPE", "understood here: PING"))
        }
    }
}
