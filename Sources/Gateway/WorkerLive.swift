// A worker's live addresses: which watch a request asks for, on which transport, and whether it may.

import AuctionEvents
import COpenSSL
import Fanout
import Reactor
import Synchronization
import Telemetry
import Tokens
import Wire

extension Worker {
    private static let liveMethods = "GET, HEAD, OPTIONS"

    /// Answers a request to a live address, or makes its connection a watcher.
    func answerLive(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, _ address: LiveAddress) {
        guard isAllowedOrigin(head, bytes) else {
            return respond(slot, .error(.forbidden, "FORBIDDEN", "this origin may not watch here"), head)
        }
        let fields = crossOriginFields(head, bytes)
        switch head.method {
        case .get, .head: break
        case .options:
            let allowed: HTTPFields = [
                ("Allow", Self.liveMethods), ("Access-Control-Allow-Methods", Self.liveMethods),
                ("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control"),
                ("Access-Control-Max-Age", "600"),
            ]
            return respond(slot, HTTPResponse(.noContent, fields: allowed + fields), head)
        case .post, .other: return respondMethodNotAllowed(slot, head, allow: Self.liveMethods)
        }
        do throws(LiveRefusal) {
            switch address {
            case .auction(let id): try watchAuction(slot, head, bytes, id: id, fields)
            case .many: try watchMany(slot, head, bytes, fields)
            case .user: try watchUser(slot, head, bytes, fields)
            }
        } catch {
            var response = error.response
            response.fields += fields
            respond(slot, response, head)
        }
    }

    private func watchAuction(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, id: String, _ fields: HTTPFields
    ) throws(LiveRefusal) {
        guard let auctionID = AuctionID(id) else { throw .auctionID }
        let access = try access(head, bytes)
        try access.check(auctionID, requiresToken: configuration.requiresToken)
        let query = bytes.text(head.query)
        let isStream = !head.wantsWebSocket && head.acceptsEventStream
        let since = try LiveQuery.cursor(
            query, lastEventID: isStream ? bytes.text(head.lastEventID) : "")
        if head.wantsWebSocket {
            guard upgrade(slot, head, bytes, isHeld: true) else { return }
        } else if isStream {
            guard head.method == .get else { return describe(slot, head, ServerSentEvent.mediaType, fields) }
            slab[slot].setKeepsAlive(head.keepsAlive)
            openStream(slot, fields: fields)
            guard !isTurnedAway(slot) else { return refuseStream(slot) }
        } else {
            let timeout = try LiveQuery.pollSeconds(query)
            guard head.method == .get else { return describe(slot, head, "application/json", fields) }
            slab[slot].setKeepsAlive(head.keepsAlive)
            openPoll(slot, fields: fields, timeout: timeout)
            guard !isTurnedAway(slot) else {
                return refusePoll(slot, retryMilliseconds: retryMilliseconds())
            }
        }
        let generation = slab[slot].generation
        if slab[slot].transport != .longPoll { scheduleExpiry(slot, of: access) }
        join(slot, .auction(auctionID.text), since: since)
        if slab.isCurrent(slot, generation: generation) { sendHeldHandshake(slot) }
        heldHandshake = nil
    }

    /// Sends the handshake's answer where no first message was there to go with it.
    private func sendHeldHandshake(_ slot: UInt32) {
        guard let held = heldHandshake else { return }
        heldHandshake = nil
        sendBytes(slot, held.answer)
    }

    private func watchMany(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, _ fields: HTTPFields
    ) throws(LiveRefusal) {
        let access = try access(head, bytes)
        if case .anonymous = access, configuration.requiresToken { throw .token }
        if head.wantsWebSocket {
            if upgrade(slot, head, bytes) { beginBundle(slot, access) }
            return
        }
        guard head.acceptsEventStream else { throw .noPoll }
        let auctions = try LiveQuery.auctions(
            bytes.text(head.query), lastEventID: bytes.text(head.lastEventID))
        for (auctionID, _) in auctions {
            try access.check(auctionID, requiresToken: configuration.requiresToken)
        }
        guard head.method == .get else { return describe(slot, head, ServerSentEvent.mediaType, fields) }
        openStream(slot, fields: fields)
        guard !isTurnedAway(slot) else { return refuseStream(slot) }
        let generation = slab[slot].generation
        beginBundle(slot, access)
        sendBytes(slot, takeHead(slot))
        for (auctionID, since) in auctions where slab.isCurrent(slot, generation: generation) {
            subscribe(slot, auctionID, since: since)
        }
    }

    private func watchUser(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, _ fields: HTTPFields
    ) throws(LiveRefusal) {
        let access = try access(head, bytes)
        guard case .bearer(let token) = access else { throw .token }
        guard (1...Limits.userIDBytes).contains(token.subject.utf8.count) else {
            throw LiveRefusal(.forbidden, "FORBIDDEN", "the token names no user")
        }
        if head.wantsWebSocket {
            guard upgrade(slot, head, bytes) else { return }
        } else {
            guard head.acceptsEventStream else { throw .noPoll }
            guard head.method == .get else { return describe(slot, head, ServerSentEvent.mediaType, fields) }
            openStream(slot, fields: fields)
            guard !isTurnedAway(slot) else { return refuseStream(slot) }
        }
        scheduleExpiry(slot, of: access)
        join(slot, .user(token.subject), since: nil)
    }

    private func access(_ head: RequestHead, _ bytes: Span<UInt8>) throws(LiveRefusal) -> Access {
        do throws(LiveRefusal) {
            return try Access(
                authorization: bytes.text(head.authorization), query: bytes.text(head.query),
                keys: configuration.tokenKeys, now: Int(Clock.wallMilliseconds() / 1_000))
        } catch {
            handle.counters.refusedTokens.add()
            throw error
        }
    }

    /// Answers HEAD as GET would begin.
    private func describe(_ slot: UInt32, _ head: RequestHead, _ mediaType: String, _ fields: HTTPFields) {
        var response = HTTPResponse(
            .ok, fields: [("Content-Type", mediaType), ("Cache-Control", "no-store")] + fields)
        response.hasKnownLength = false
        respond(slot, response, head)
    }

    // MARK: Upgrade

    /// Completes the WebSocket handshake. Returns whether there is a WebSocket now that may be used.
    /// - Parameter isHeld: keeps the answer back, to leave with the first message in one send.
    func upgrade(
        _ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, isHeld: Bool = false
    ) -> Bool {
        guard !slab[slot].flags.contains(.isOverAddressLimit) else {
            if let refusal = refusal(slot) { respond(slot, refusal, keepAlive: false) }
            return false
        }
        guard bytes.text(head.webSocketVersion) == "13" else {
            respond(
                slot,
                .error(
                    .upgradeRequired, "UPGRADE_REQUIRED", "only WebSocket version 13 is spoken",
                    fields: [("Sec-WebSocket-Version", "13")]), head)
            return false
        }
        guard head.method == .get, WebSocketHandshake.isValidKey(bytes, head.webSocketKey) else {
            respond(
                slot, .error(.badRequest, "BAD_REQUEST", "Sec-WebSocket-Key is missing or malformed"), head)
            return false
        }
        let key = WebSocketHandshake.acceptKey(for: bytes.text(head.webSocketKey), sha1: Self.sha1)
        handle.counters.upgrades.add()
        slab[slot].transport = .webSocket
        slab[slot].phase = .echoing
        var compression: MessageCompression?
        if configuration.deflates, !head.webSocketExtensions.isEmpty {
            compression = MessageCompression(offers: bytes, head.webSocketExtensions.range)
        }
        slab[slot].deflateBits = compression?.serverWindowBits ?? 0
        let answer = WebSocketHandshake.response(acceptKey: key, extensions: compression?.answer)
        if isHeld, !isTurnedAway(slot) {
            heldHandshake = (slot, answer)
        } else {
            sendBytes(slot, answer)
        }
        guard isTurnedAway(slot) else { return true }
        let (code, reason) = turningAway(slot)
        dismiss(slot, code, reason, retryMilliseconds: retryMilliseconds())
        return false
    }

    /// Whether a connection is over a limit, or the gateway is leaving, and the client is only told so.
    private func isTurnedAway(_ slot: UInt32) -> Bool {
        drainStartedAt != nil || isFull(slot) || slab[slot].flags.contains(.isOverAddressLimit)
    }

    /// What a client is told that is turned away.
    private func turningAway(_ slot: UInt32) -> (code: UInt16, reason: String) {
        guard drainStartedAt == nil else { return (CloseCode.goingAway, Self.leaving) }
        guard isFull(slot) else { return (CloseCode.tryAgainLater, "your address has too many connections") }
        handle.counters.overCapacity.add()
        return (CloseCode.tryAgainLater, "this gateway is full")
    }

    /// Whether there was no room for the connection, or there is no memory for a watcher now.
    private func isFull(_ slot: UInt32) -> Bool {
        slab[slot].flags.contains(.isRefused) || shared.isOverMemory.load(ordering: .relaxed)
    }

    /// The client is turned away. A browser gives up after a 503, so a stream is opened to say when to come
    /// back.
    private func refuseStream(_ slot: UInt32) {
        let (code, reason) = turningAway(slot)
        closeStream(slot, code, reason, retryMilliseconds: retryMilliseconds())
    }

    private static func sha1(_ input: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
        SHA1(input, input.count, &digest)
        return digest
    }

    private func isAllowedOrigin(_ head: RequestHead, _ bytes: Span<UInt8>) -> Bool {
        guard head.hasOrigin, !configuration.origins.contains("*") else { return true }
        let origin = bytes.text(head.origin)
        if configuration.origins.contains(origin) { return true }
        let host = bytes.text(head.host)
        return !host.isEmpty && (origin == "http://" + host || origin == "https://" + host)
    }

    /// What the answers of live addresses tell a browser whose page is of another origin.
    private func crossOriginFields(_ head: RequestHead, _ bytes: Span<UInt8>) -> HTTPFields {
        guard head.hasOrigin else { return [] }
        return [
            ("Access-Control-Allow-Origin", bytes.text(head.origin)), ("Vary", "Origin"),
            ("Access-Control-Expose-Headers", "Retry-After"),
        ]
    }
}
