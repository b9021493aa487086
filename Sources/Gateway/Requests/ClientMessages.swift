// What WebSocket clients say: frames, the few messages that the gateway understands, and its answers.

import AuctionEvents
import Compression
import Fanout
import LiveProtocol
import Telemetry
import Wire

extension Requests {
    func takeFrame(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from start: Int, _ input: inout PartialInput
    ) -> Int {
        let isEcho = connections[slot].phase == .echoing
        let rules = WebSocketDecoder.Rules(
            maximumMessageBytes: isEcho ? Limits.echoMessageBytes : context.configuration.maxMessageBytes,
            allowsCompression: connections[slot].deflateBits != 0)
        // SAFETY: the payload ranges of the steps lie in `bytes`, which the caller keeps for the length of
        // this call.
        let step = input.decoder.next(in: bytes, from: start, rules)
        var isAnswer = false
        if case .pong = step { isAnswer = connections.takePong() }
        if !isAnswer, step != .incomplete, !admission.clients.takeMessage(slot) {
            violate(slot, CloseCode.policyViolation, reason: "too many messages")
            return bytes.count - start
        }
        switch step {
        case .incomplete: return 0
        case .part(let consumed), .pong(let consumed): return consumed
        case .message(let kind, let payload, let consumed):
            let message = bytes[payload].withMemoryRebound(to: UInt8.self) { ArraySlice($0) }
            takeMessage(slot, kind, message, rules)
            return consumed
        case .assembled(let kind, let payload, let consumed):
            takeMessage(slot, kind, payload[...], rules)
            return consumed
        case .ping(let payload, let consumed):
            if connections[slot].phase != .closing {
                watching.sendControl(WebSocketFrame.encode(.pong, Array(bytes[payload])), to: slot)
            }
            return consumed
        case .close(let code, _):
            connections.end(slot, .peerClosed(code: code))
            return bytes.count - start
        case .violation(let code):
            violate(slot, code)
            return bytes.count - start
        }
    }

    private func violate(_ slot: UInt32, _ code: UInt16, reason: String = "") {
        connections.end(slot, .violation(code: code, reason: reason))
    }

    private func takeMessage(
        _ slot: UInt32, _ kind: WebSocketDecoder.Kind, _ payload: ArraySlice<UInt8>,
        _ rules: WebSocketDecoder.Rules
    ) {
        guard case .compressed(let isText) = kind else {
            return takeMessage(slot, isText: kind.isText, payload)
        }
        switch inflater.expand(payload, maximumBytes: rules.maximumMessageBytes) {
        case .tooLarge: violate(slot, CloseCode.messageTooBig)
        case .malformed: violate(slot, CloseCode.invalidPayload)
        case .message(let message):
            guard !isText || message.withUnsafeBytes(WebSocketDecoder.isUTF8) else {
                return violate(slot, CloseCode.invalidPayload)
            }
            takeMessage(slot, isText: isText, message[...])
        }
    }

    private func takeMessage(_ slot: UInt32, isText: Bool, _ payload: ArraySlice<UInt8>) {
        switch connections[slot].phase {
        case .echoing: echo(slot, isText ? .text : .binary, payload)
        case .joining, .watching, .multiplexing:
            guard isText else {
                return dismiss(slot, CloseCode.unsupportedData, "only text messages are accepted")
            }
            answer(payload, of: slot)
        case .free, .introducing, .securing, .readingHead, .readingBody, .opening, .closing, .lingering: break
        }
    }

    private func dismiss(_ slot: UInt32, _ code: UInt16, _ message: String) {
        connections.end(slot, .dismissal(Dismissal(code: code, message: message)))
    }

    private func answer(_ payload: ArraySlice<UInt8>, of slot: UInt32) {
        let message: ClientMessage
        do throws(JSONScanner.Failure) {
            message = try ClientMessage(Array(payload))
        } catch {
            return dismiss(slot, CloseCode.policyViolation, "a message must be a JSON object")
        }
        let isMultiplexing = connections[slot].phase == .multiplexing
        switch message.kind {
        case .ping:
            let pong = EventEncoder.pong(echo: message.echo, serverTime: context.serverTime())
            connections.settle(output.send(pong, to: slot), of: slot)
        case .subscribe where isMultiplexing: subscribe(slot, message)
        case .unsubscribe where isMultiplexing:
            guard let text = message.auctionID, let auctionID = AuctionID(text) else {
                return watching.refuse(slot, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
            }
            watching.unsubscribe(slot, auctionID: auctionID.text)
        case .subscribe, .unsubscribe, .other:
            let known = isMultiplexing ? "SUBSCRIBE, UNSUBSCRIBE, PING" : "PING"
            watching.refuse(slot, "UNKNOWN_TYPE", "this connection understands only \(known)")
        }
    }

    private func subscribe(_ slot: UInt32, _ message: ClientMessage) {
        guard let text = message.auctionID, let auctionID = AuctionID(text) else {
            return watching.refuse(slot, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
        }
        do throws(LiveRefusal) {
            try watching.access(of: slot)?.check(
                auctionID, requiresToken: context.configuration.requiresToken)
        } catch {
            return watching.refuse(slot, error.code, error.message, auctionID.text)
        }
        switch message.since {
        case .malformed: watching.refuse(slot, "BAD_CURSOR", Cursor.rule, auctionID.text)
        case .none: watching.subscribe(slot, auctionID, since: nil)
        case .at(let since): watching.subscribe(slot, auctionID, since: since)
        }
    }
}
