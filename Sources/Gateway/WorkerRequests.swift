// A worker's plain HTTP side: request heads, where they lead, and the answers.

import AuctionEvents
import COpenSSL
import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Reads a head at the beginning of `bytes`; returns how many bytes it took, 0 when it is not complete.
    func readHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int {
        // SAFETY: the span is used within this call, while the caller keeps `bytes`.
        let span = bytes.bindMemory(to: UInt8.self).span
        switch RequestHead.parse(span) {
        case .incomplete: return 0
        case .refused(let fault):
            handle.counters.refusedHeads.add()
            respond(slot, Self.response(to: fault), keepAlive: false)
            return bytes.count
        case .complete(let head, let consumed):
            handle.counters.requests.add()
            let path = span.text(head.path)
            if !configuration.echoPath.isEmpty, path == configuration.echoPath, head.wantsWebSocket {
                upgrade(slot, head, span, watching: nil)
            } else if slab[slot].flags.contains(.isAdmin) {
                answerAdmin(slot, head, span, path: path)
            } else {
                answer(slot, head, span, path: path)
            }
            return consumed
        }
    }

    private static func response(to fault: RequestHead.Fault) -> HTTPResponse {
        switch fault {
        case .malformed: .error(.badRequest, "BAD_REQUEST", "the request's head is malformed")
        case .tooLarge:
            .error(
                .headTooLarge, "HEAD_TOO_LARGE",
                "the request's head is over \(RequestHead.maximumBytes) bytes or \(RequestHead.maximumFields) fields"
            )
        case .targetTooLong:
            .error(
                .targetTooLong, "TARGET_TOO_LONG",
                "the request's target is over \(RequestHead.maximumTargetBytes) bytes")
        }
    }

    private func answer(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, path: String) {
        guard !head.hasBody else {
            return respond(
                slot, .error(.contentTooLarge, "CONTENT_TOO_LARGE", "requests have no body here"),
                keepAlive: false)
        }
        if let auctionID = Self.liveAuction(path) {
            return answerLive(slot, head, bytes, auctionID: auctionID)
        }
        guard let page = shared.pages.page(path) else {
            return respond(slot, .error(.notFound, "NOT_FOUND", "there is nothing at this address"), head)
        }
        switch head.method {
        case .get, .head: respond(slot, page, head)
        case .options:
            respond(slot, HTTPResponse(.noContent, fields: [("Allow", "GET, HEAD, OPTIONS")]), head)
        case .post, .other: respondMethodNotAllowed(slot, head, allow: "GET, HEAD, OPTIONS")
        }
    }

    /// The id in `/v1/auctions/{id}/live`, unchecked.
    private static func liveAuction(_ path: String) -> Substring? {
        let prefix = "/v1/auctions/"
        let suffix = "/live"
        guard path.hasPrefix(prefix), path.hasSuffix(suffix),
            path.utf8.count > prefix.utf8.count + suffix.utf8.count
        else { return nil }
        let id = path.dropFirst(prefix.count).dropLast(suffix.count)
        return id.contains("/") ? nil : id
    }

    private func answerLive(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, auctionID text: Substring
    ) {
        switch head.method {
        case .options:
            return respond(slot, HTTPResponse(.noContent, fields: [("Allow", "GET, OPTIONS")]), head)
        case .get: break
        case .head, .post, .other: return respondMethodNotAllowed(slot, head, allow: "GET, OPTIONS")
        }
        guard let auctionID = AuctionID(text) else {
            return respond(
                slot,
                .error(
                    .badRequest, "BAD_AUCTION_ID", "an auction id is 1 to 64 characters of A-Z a-z 0-9 _ -"),
                head)
        }
        guard head.wantsWebSocket else {
            return respond(
                slot,
                .error(
                    .upgradeRequired, "UPGRADE_REQUIRED", "this address speaks WebSocket",
                    fields: [("Upgrade", "websocket"), ("Connection", "Upgrade")]), head)
        }
        guard isAllowedOrigin(head, bytes) else {
            return respond(slot, .error(.forbidden, "FORBIDDEN", "this origin may not watch here"), head)
        }
        guard !auctionID.isPrivate else {
            return respond(
                slot, .error(.unauthorized, "UNAUTHORIZED", "a private auction needs a token"), head)
        }
        var since: UInt64?
        if let text = QueryString.value("since", in: bytes.text(head.query)) {
            since = UInt64(text)
            guard let since, since <= .maximumSequence, text.allSatisfy(\.isNumber) else {
                return respond(
                    slot, .error(.badRequest, "BAD_CURSOR", "since is a sequence number from 0 to 2^53-1"),
                    head)
            }
        }
        upgrade(slot, head, bytes, watching: (auctionID.text, since))
    }

    /// Completes the WebSocket handshake; without an auction the messages are echoed.
    private func upgrade(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>,
        watching: (auctionID: String, since: UInt64?)?
    ) {
        guard bytes.text(head.webSocketVersion) == "13" else {
            return respond(
                slot,
                .error(
                    .upgradeRequired, "UPGRADE_REQUIRED", "only WebSocket version 13 is spoken",
                    fields: [("Sec-WebSocket-Version", "13")]), head)
        }
        guard head.method == .get, WebSocketHandshake.isValidKey(bytes, head.webSocketKey) else {
            return respond(
                slot, .error(.badRequest, "BAD_REQUEST", "Sec-WebSocket-Key is missing or malformed"), head)
        }
        let key = WebSocketHandshake.acceptKey(for: bytes.text(head.webSocketKey), sha1: Self.sha1)
        handle.counters.upgrades.add()
        slab[slot].flags.insert(.isWebSocket)
        slab[slot].phase = .echoing
        sendMessage(slot, WebSocketHandshake.response(acceptKey: key))
        if slab[slot].flags.contains(.isRefused) {
            handle.counters.overCapacity.add()
            return beginClose(slot, CloseCode.tryAgainLater, reason: retryReason())
        }
        guard let watching else {
            return schedule(slot, seconds: max(60, configuration.heartbeatSeconds))
        }
        join(slot, auctionID: watching.auctionID, since: watching.since)
    }

    private static func sha1(_ input: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
        SHA1(input, input.count, &digest)
        return digest
    }

    private func isAllowedOrigin(_ head: RequestHead, _ bytes: Span<UInt8>) -> Bool {
        guard !head.origin.isEmpty, !configuration.origins.contains("*") else { return true }
        let origin = bytes.text(head.origin)
        if configuration.origins.contains(origin) { return true }
        guard let separator = origin.firstRange(of: "://") else { return false }
        return !head.host.isEmpty && origin[separator.upperBound...] == bytes.text(head.host)
    }

    // MARK: Answers

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
        if slab[slot].flags.contains(.isRefused) {
            handle.counters.overCapacity.add()
            response = .error(
                .serviceUnavailable, "OVER_CAPACITY", "this gateway is full; come back later",
                fields: [("Retry-After", "\(max(1, configuration.drainSeconds / 2))")])
            keepAlive = false
        }
        // A client that sends requests and reads no answers gets this one more.
        if slab[slot].flags.contains(.hasBacklog) { keepAlive = false }
        sendMessage(slot, response.encoded(keepAlive: keepAlive, withBody: withBody))
        if keepAlive {
            schedule(slot, seconds: Limits.headTimeoutSeconds)
        } else {
            closeAfterFlush(slot)
        }
    }
}
