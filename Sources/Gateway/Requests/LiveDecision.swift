// Decides about requests to live addresses: origin, method, token, parameters and handshake, in this order.
// Functions of values; nothing here touches a connection.

import AuctionEvents
import Fanout
import LiveProtocol
import Tokens
import Wire

struct LiveDecision {
    private static let methods = "GET, HEAD, OPTIONS"

    private let head: RequestHead
    private let rules: RequestRules
    private let fields: HTTPFields

    private init(_ head: RequestHead, _ rules: RequestRules, _ fields: HTTPFields) {
        self.head = head
        self.rules = rules
        self.fields = fields
    }

    static func decide(
        _ head: RequestHead, _ bytes: Span<UInt8>, _ address: LiveAddress, _ rules: RequestRules
    ) -> RequestDecision {
        guard isAllowedOrigin(head, bytes, rules.origins) else {
            return .respond(.error(.forbidden, "FORBIDDEN", "this origin may not watch here"))
        }
        let fields = crossOriginFields(head, bytes)
        switch head.method {
        case .get, .head: break
        case .options: return .respond(preflight(fields))
        case .post, .other: return .respond(.methodNotAllowed(allow: methods))
        }
        do throws(LiveRefusal) {
            let decision = LiveDecision(head, rules, fields)
            switch address {
            case .auction(let id): return try decision.auction(id, bytes)
            case .many: return try decision.many(bytes)
            case .user: return try decision.user(bytes)
            }
        } catch {
            var response = error.response
            response.fields += fields
            return .refuse(response, isTokenFault: error.isTokenFault)
        }
    }

    // MARK: Addresses

    private func auction(_ id: String, _ bytes: Span<UInt8>) throws(LiveRefusal) -> RequestDecision {
        guard let auctionID = AuctionID(id) else { throw .auctionID }
        let access = try access(bytes)
        try access.check(auctionID, requiresToken: rules.requiresToken)
        let query = bytes.text(head.query)
        let isStream = !head.wantsWebSocket && head.acceptsEventStream
        let since = try LiveQuery.cursor(query, lastEventID: isStream ? bytes.text(head.lastEventID) : "")
        let target = LiveRequest.Target.auction(auctionID, since: since)
        if head.wantsWebSocket || isStream { return try watch(target, access, bytes) }
        return try poll(target, access, bytes)
    }

    private func many(_ bytes: Span<UInt8>) throws(LiveRefusal) -> RequestDecision {
        let access = try access(bytes)
        if case .anonymous = access, rules.requiresToken { throw .token }
        guard !head.wantsWebSocket else { return try watch(.many([]), access, bytes) }
        let isStream = head.acceptsEventStream
        let auctions = try LiveQuery.auctions(
            bytes.text(head.query), lastEventID: isStream ? bytes.text(head.lastEventID) : "")
        for (auctionID, _) in auctions { try access.check(auctionID, requiresToken: rules.requiresToken) }
        guard isStream else { return try poll(.many(auctions), access, bytes) }
        return try watch(.many(auctions), access, bytes)
    }

    private func user(_ bytes: Span<UInt8>) throws(LiveRefusal) -> RequestDecision {
        let access = try access(bytes)
        guard case .bearer(let token) = access else { throw .token }
        guard (1...Limits.userIDBytes).contains(token.subject.utf8.count) else {
            throw LiveRefusal(.forbidden, "FORBIDDEN", "the token names no user")
        }
        guard head.wantsWebSocket || head.acceptsEventStream else { throw .noPoll }
        return try watch(.user(token.subject), access, bytes)
    }

    /// A watch over a WebSocket or an event stream.
    private func watch(
        _ target: LiveRequest.Target, _ access: Access, _ bytes: Span<UInt8>
    ) throws(LiveRefusal) -> RequestDecision {
        let query = bytes.text(head.query)
        let heartbeat = try LiveQuery.heartbeatSeconds(query)
        if head.wantsWebSocket {
            let deflates = rules.deflates && QueryString.value("compression", in: query) != "none"
            let upgrade = try WebSocketUpgrade(head, bytes, deflates: deflates)
            return watch(target, .webSocket(upgrade), access, heartbeat)
        }
        guard head.method == .get else { return describe(ServerSentEvent.mediaType) }
        return watch(target, .eventStream, access, heartbeat)
    }

    private func poll(
        _ target: LiveRequest.Target, _ access: Access, _ bytes: Span<UInt8>
    ) throws(LiveRefusal) -> RequestDecision {
        let seconds = try LiveQuery.pollSeconds(bytes.text(head.query))
        guard head.method == .get else { return describe("application/json") }
        return watch(target, .longPoll(seconds: seconds), access, nil)
    }

    private func watch(
        _ target: LiveRequest.Target, _ carrier: LiveRequest.Carrier, _ access: Access, _ heartbeat: Int?
    ) -> RequestDecision {
        .watch(
            LiveRequest(
                target: target, carrier: carrier, access: access, fields: fields, keepsAlive: head.keepsAlive,
                heartbeatSeconds: UInt8(heartbeat ?? 0)))
    }

    /// Answers HEAD with the head that GET's answer would have.
    private func describe(_ mediaType: String) -> RequestDecision {
        var response = HTTPResponse(
            .ok, fields: [("Content-Type", mediaType), ("Cache-Control", "no-store")] + fields)
        response.hasKnownLength = false
        return .respond(response)
    }

    // MARK: Tokens and origins

    private func access(_ bytes: Span<UInt8>) throws(LiveRefusal) -> Access {
        do throws(LiveRefusal) {
            return try Access(
                authorization: bytes.text(head.authorization), query: bytes.text(head.query),
                keys: rules.tokenKeys, now: rules.now)
        } catch {
            var refusal = error
            refusal.isTokenFault = true
            throw refusal
        }
    }

    static func isAllowedOrigin(_ head: RequestHead, _ bytes: Span<UInt8>, _ origins: [String]) -> Bool {
        guard head.hasOrigin, !origins.contains("*") else { return true }
        let origin = bytes.text(head.origin)
        if origins.contains(origin) { return true }
        let host = bytes.text(head.host)
        return !host.isEmpty && (origin == "http://" + host || origin == "https://" + host)
    }

    /// What the answers of live addresses tell a browser whose page is of another origin.
    private static func crossOriginFields(_ head: RequestHead, _ bytes: Span<UInt8>) -> HTTPFields {
        guard head.hasOrigin else { return [] }
        return [
            ("Access-Control-Allow-Origin", bytes.text(head.origin)), ("Vary", "Origin"),
            ("Access-Control-Expose-Headers", "Retry-After"),
        ]
    }

    private static func preflight(_ fields: HTTPFields) -> HTTPResponse {
        HTTPResponse(
            .noContent,
            fields: [
                ("Allow", methods), ("Access-Control-Allow-Methods", methods),
                ("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control"),
                ("Access-Control-Max-Age", "600"),
            ] + fields)
    }
}
