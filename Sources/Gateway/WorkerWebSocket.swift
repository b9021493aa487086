// What WebSocket clients say to a worker: frames, the few messages the gateway understands, and its answers.

import AuctionEvents
import Compression
import Fanout
import Telemetry
import Wire

extension Worker {
    /// Handles the frame at `start`; returns how many bytes it took, 0 when it is not complete or the
    /// connection is done with.
    func readFrame(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from start: Int, _ input: inout Input
    ) -> Int {
        let isEcho = slab[slot].phase == .echoing
        let rules = WebSocketDecoder.Rules(
            maximumMessageBytes: isEcho ? Limits.echoMessageBytes : configuration.maxMessageBytes,
            allowsCompression: slab[slot].deflateBits != 0)
        // SAFETY: the payload ranges of the steps lie in `bytes`, which the caller keeps for the length of
        // this call.
        let step = input.decoder.next(in: bytes, from: start, rules)
        if case .pong = step, answersPing {
            answersPing = false
        } else if step != .incomplete, !mayTalk(slot) {
            closeViolator(slot, CloseCode.policyViolation, reason: "too many messages")
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
            if slab[slot].phase != .closing {
                sendControl(slot, WebSocketFrame.encode(.pong, Array(bytes[payload])))
            }
            return consumed
        case .close(let code, _):
            answerClose(slot, code)
            return bytes.count - start
        case .violation(let code):
            closeViolator(slot, code)
            return bytes.count - start
        }
    }

    private func takeMessage(
        _ slot: UInt32, _ kind: WebSocketDecoder.Kind, _ payload: ArraySlice<UInt8>,
        _ rules: WebSocketDecoder.Rules
    ) {
        guard case .compressed(let isText) = kind else {
            return takeMessage(slot, isText: kind.isText, payload)
        }
        switch inflater.expand(payload, maximumBytes: rules.maximumMessageBytes) {
        case .tooLarge: closeViolator(slot, CloseCode.messageTooBig)
        case .malformed: closeViolator(slot, CloseCode.invalidPayload)
        case .message(let message):
            guard !isText || message.withUnsafeBytes(WebSocketDecoder.isUTF8) else {
                return closeViolator(slot, CloseCode.invalidPayload)
            }
            takeMessage(slot, isText: isText, message[...])
        }
    }

    private func takeMessage(_ slot: UInt32, isText: Bool, _ payload: ArraySlice<UInt8>) {
        switch slab[slot].phase {
        case .echoing: echo(slot, isText ? .text : .binary, payload)
        case .awaitingSnapshot, .watching, .bundling:
            guard isText else {
                return beginClose(slot, CloseCode.unsupportedData, reason: "only text is understood")
            }
            answerMessage(slot, payload)
        case .free, .securing, .readingHead, .readingBody, .closing, .lingering: break
        }
    }

    /// Sends a message back, compressed where the client takes that.
    private func echo(_ slot: UInt32, _ opcode: WebSocketOpcode, _ payload: ArraySlice<UInt8>) {
        let bits = Int(slab[slot].deflateBits)
        guard bits > 0, payload.count >= Limits.leastDeflatedBytes else {
            return sendBytes(slot, WebSocketFrame.encode(opcode, payload))
        }
        let own = slab[slot].takesSharedDeflate ? deflater : MessageDeflater(windowBits: bits)
        sendBytes(slot, WebSocketFrame.encode(opcode, own.compress(payload), isCompressed: true))
    }

    private func answerMessage(_ slot: UInt32, _ payload: ArraySlice<UInt8>) {
        let message: ClientMessage
        do throws(JSONScanner.Failure) {
            message = try ClientMessage(Array(payload))
        } catch {
            return beginClose(slot, CloseCode.policyViolation, reason: "a message must be a JSON object")
        }
        let isBundle = slab[slot].phase == .bundling
        switch message.kind {
        case .ping: send(EventEncoder.pong(echo: message.echo, serverTime: serverTime()), to: slot)
        case .subscribe where isBundle: subscribe(slot, message)
        case .unsubscribe where isBundle:
            guard let text = message.auctionID, let auctionID = AuctionID(text) else {
                return refuse(slot, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
            }
            unsubscribe(slot, auctionID: auctionID.text)
        case .subscribe, .unsubscribe, .other:
            refuse(
                slot, "UNKNOWN_TYPE", "understood here: \(isBundle ? "SUBSCRIBE, UNSUBSCRIBE, PING" : "PING")"
            )
        }
    }

    private func subscribe(_ slot: UInt32, _ message: ClientMessage) {
        guard let text = message.auctionID, let auctionID = AuctionID(text) else {
            return refuse(slot, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
        }
        do throws(LiveRefusal) {
            try bundles[slot]?.access.check(auctionID, requiresToken: configuration.requiresToken)
        } catch {
            return refuse(slot, error.code, error.message, auctionID.text)
        }
        switch message.since {
        case .malformed: refuse(slot, "BAD_CURSOR", Cursor.rule, auctionID.text)
        case .none: subscribe(slot, auctionID, since: nil)
        case .at(let since): subscribe(slot, auctionID, since: since)
        }
    }
}
