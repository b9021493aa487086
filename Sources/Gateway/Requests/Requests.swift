// What clients ask for. A request's head becomes a decision, which is a value, and the decision is carried
// out. The messages of WebSockets are answered here too. The event loop hands every input to this room.
// Requests.swift: heads and answers. LiveDecision.swift: who may watch what. ClientMessages.swift: frames.
// Echo.swift: the echo path.

import AuctionEvents
import Compression
import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Tokens
import Wire

final class Requests: InputHandler {
    let context: LoopContext
    let connections: Connections
    let output: Output
    let watching: Watching
    let admission: Admission
    /// The operator's questions under way.
    let inspections: Inspections
    let inflater = MessageInflater()
    /// Signatures still to be checked in this turn.
    private var signatureBudget = Limits.signaturesPerTurn

    init(
        context: LoopContext, connections: Connections, output: Output, watching: Watching,
        admission: Admission
    ) {
        self.context = context
        self.connections = connections
        self.output = output
        self.watching = watching
        self.admission = admission
        inspections = Inspections(context: context)
    }

    func beginTurn() {
        signatureBudget = Limits.signaturesPerTurn
    }

    // MARK: Heads

    func takeIntroduction(_ slot: UInt32, client: [UInt8]?, isSecure: Bool) {
        admission.introduce(slot, client: client, isSecure: isSecure)
    }

    func takeHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int {
        // SAFETY: the span is used within this call, while the caller keeps `bytes`.
        let span = bytes.bindMemory(to: UInt8.self).span
        switch RequestHead.parse(span, maximumBytes: context.configuration.maxHeadBytes) {
        case .incomplete: return 0
        case .refused(let fault):
            context.counters.refusedHeads.add()
            respond(to: slot, response(to: fault), keepsAlive: false)
            return bytes.count
        case .complete(let head, let consumed):
            connections.unmark(slot, .isIdle)
            guard mayCheckToken(slot, head, span) else { return 0 }
            context.counters.requests.add()
            if !connections[slot].flags.contains(.isAdmin) { admission.clients.recognise(slot, head, span) }
            perform(decide(slot, head, span), slot, head, &input)
            return consumed
        }
    }

    /// True when a request's token may be checked in this turn. A crowd's signatures would hold up the
    /// fan-out. So beyond the turn's budget, the request is kept and read again in the next turn.
    private func mayCheckToken(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) -> Bool {
        let hasToken =
            !head.authorization.isEmpty || !head.query.isEmpty && bytes.text(head.query).contains("token=")
        guard hasToken, context.configuration.tokenKeys != nil else { return true }
        guard signatureBudget > 0 else {
            context.counters.deferredTokens.add()
            connections.deferInput(slot)
            return false
        }
        signatureBudget -= 1
        return true
    }

    private func decide(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>) -> RequestDecision {
        let path = bytes.text(head.path)
        guard !connections[slot].flags.contains(.isAdmin) else {
            switch AdminRequest.decide(head, path: path, query: bytes.text(head.query)) {
            case .success(let request): return .administer(request)
            case .failure(let refusal): return .respond(refusal.response)
            }
        }
        let configuration = context.configuration
        if !configuration.echoPath.isEmpty, path == configuration.echoPath {
            return Echo.decide(head, bytes, deflates: configuration.deflates)
        }
        let isRead = head.method == .get || head.method == .head || head.method == .options
        guard !head.hasBody || !isRead else {
            return .respondAndClose(
                .error(.contentTooLarge, "CONTENT_TOO_LARGE", "requests to the gateway must have no body"))
        }
        if path == "/v1/time" { return time(head) }
        guard let address = LiveAddress(path) else { return page(path, head, bytes) }
        return LiveDecision.decide(
            head, bytes, address,
            RequestRules(
                origins: configuration.origins, requiresToken: configuration.requiresToken,
                tokenKeys: configuration.tokenKeys, deflates: configuration.deflates,
                now: Int(Clock.wallMilliseconds() / 1_000)))
    }

    private func page(_ path: String, _ head: RequestHead, _ bytes: Span<UInt8>) -> RequestDecision {
        let match = bytes.text(head.ifNoneMatch)
        guard
            let page = context.shared.pages.page(path, acceptsGzip: head.acceptsGzip, ifNoneMatch: match)
        else { return .respond(.notFound) }
        return reading(page, head)
    }

    /// The server's time, which any page may read.
    private func time(_ head: RequestHead) -> RequestDecision {
        let fields: HTTPFields = [
            ("Content-Type", "application/json"), ("Access-Control-Allow-Origin", "*"),
            ("Cache-Control", "no-store"),
        ]
        let body = EventEncoder.time(context.serverTime())
        return reading(HTTPResponse(.ok, fields: fields, body: body), head)
    }

    /// Answers a request for something that can only be read.
    private func reading(_ response: HTTPResponse, _ head: RequestHead) -> RequestDecision {
        let methods = "GET, HEAD, OPTIONS"
        switch head.method {
        case .get, .head: return .respond(response)
        case .options: return .respond(HTTPResponse(.noContent, fields: [("Allow", methods)]))
        case .post, .other: return .respond(.methodNotAllowed(allow: methods))
        }
    }

    private func response(to fault: RequestHead.Fault) -> HTTPResponse {
        switch fault {
        case .malformed: .error(.badRequest, "BAD_REQUEST", "the request's head is malformed")
        case .tooLarge:
            .error(
                .headTooLarge, "HEAD_TOO_LARGE",
                "the request's head is over \(context.configuration.maxHeadBytes) bytes or \(RequestHead.maximumFields) fields"
            )
        case .targetTooLong:
            .error(
                .targetTooLong, "TARGET_TOO_LONG",
                "the request's target is over \(RequestHead.maximumTargetBytes) bytes")
        }
    }

    // MARK: Performance

    private func perform(
        _ decision: RequestDecision, _ slot: UInt32, _ head: RequestHead, _ input: inout PartialInput
    ) {
        let keepsAlive = head.keepsAlive && !head.hasBody && !context.isDraining
        let withBody = head.method != .head
        switch decision {
        case .respond(let response):
            respond(to: slot, response, keepsAlive: keepsAlive, withBody: withBody)
        case .respondAndClose(let response):
            respond(to: slot, response, keepsAlive: false, withBody: withBody)
        case .refuse(let response, let isTokenFault):
            if isTokenFault { context.counters.refusedTokens.add() }
            respond(to: slot, response, keepsAlive: keepsAlive, withBody: withBody)
        case .watch(let request): watch(slot, request)
        case .administer(.inspect(let question)):
            // Nothing else is answered over this connection meanwhile.
            connections.transition(slot, to: .opening)
            inspections.ask(question, for: connections.token(slot), withBody: withBody)
        case .administer(let request):
            respond(to: slot, request.answer(context.shared), keepsAlive: keepsAlive, withBody: withBody)
        case .echo: beginEcho(slot, head, &input)
        case .echoSocket(let upgrade):
            guard open(slot, upgrade, isHeldBack: false) else { return }
            connections.transition(slot, to: .echoing)
            watching.scheduleEchoHeartbeat(slot)
        }
    }

    /// Answers the operator's questions whose answers are ready. Their connections then end.
    func answerInspections() {
        while let (token, response, withBody) = inspections.nextAnswer() {
            guard let slot = connections.slot(of: token), connections[slot].phase == .opening else {
                continue
            }
            connections.transition(slot, to: .readingHead)
            respond(to: slot, response, keepsAlive: false, withBody: withBody)
        }
    }

    /// Answers a request. A refused connection gets the refusal in place of the answer.
    func respond(
        to slot: UInt32, _ response: HTTPResponse, keepsAlive: Bool, withBody: Bool = true
    ) {
        guard var refusal = admission.refusal(of: slot) else {
            return watching.respond(response, to: slot, keepsAlive: keepsAlive, withBody: withBody)
        }
        // A page of another origin must be able to read the refusal too.
        refusal.fields += response.fields.filter { $0.name.hasPrefix("Access-Control-") || $0.name == "Vary" }
        watching.respond(refusal, to: slot, keepsAlive: false, withBody: withBody)
    }

    /// A request has not arrived in time.
    func headTimedOut(_ slot: UInt32) {
        context.counters.timeouts.add()
        // Between two requests of a kept-alive connection, no request waits for an answer.
        guard connections[slot].flags.contains(.hasInput) || connections[slot].phase == .readingBody else {
            return connections.end(slot, .abrupt)
        }
        respond(
            to: slot, .error(.requestTimeout, "REQUEST_TIMEOUT", "the request did not arrive in time"),
            keepsAlive: false)
    }

    // MARK: Watches

    /// Makes a connection a watcher, or turns it away.
    private func watch(_ slot: UInt32, _ request: LiveRequest) {
        connections.setKeepsAlive(slot, request.keepsAlive)
        connections.setHeartbeat(slot, seconds: request.heartbeatSeconds)
        switch request.carrier {
        case .webSocket(let upgrade):
            var isAuction = false
            if case .auction = request.target { isAuction = true }
            guard open(slot, upgrade, isHeldBack: isAuction) else { return }
            scheduleExpiry(slot, of: request.access)
        case .eventStream:
            watching.openStream(slot, fields: request.fields)
            if let dismissal = admission.turningAway(slot) {
                return connections.end(slot, .dismissal(dismissal))
            }
            scheduleExpiry(slot, of: request.access)
        case .longPoll(let seconds):
            if var refusal = admission.refusal(of: slot) {
                refusal.fields += [("Cache-Control", "no-store")] + request.fields
                return watching.respond(refusal, to: slot, keepsAlive: false)
            }
            watching.openPoll(slot, fields: request.fields, timeout: seconds)
            if let dismissal = admission.turningAway(slot) {
                return watching.refusePoll(slot, retryMilliseconds: dismissal.retryMilliseconds)
            }
        }
        switch request.target {
        case .auction(let auctionID, let since):
            watching.join(slot, .auction(auctionID.text), since: since)
            watching.sendPendingHandshake()
        case .user(let id): watching.join(slot, .user(id), since: nil)
        case .many(let auctions):
            watching.beginMultiplexing(slot, request.access)
            watching.openIfStream(slot)
            watching.awaitAnswers(auctions.count { $0.since == nil }, of: slot)
            for (auctionID, since) in auctions where !connections[slot].flags.contains(.isEnding) {
                watching.subscribe(slot, auctionID, since: since)
            }
        }
    }

    /// Completes the WebSocket handshake. Returns true when there is now a WebSocket that may be used.
    /// - Parameter isHeldBack: keeps the answer, to leave with the first message in one send.
    private func open(_ slot: UInt32, _ upgrade: WebSocketUpgrade, isHeldBack: Bool) -> Bool {
        if connections[slot].flags.contains(.isOverAddressLimit), let refusal = admission.refusal(of: slot) {
            watching.respond(refusal, to: slot, keepsAlive: false)
            return false
        }
        context.counters.upgrades.add()
        connections.transition(slot, to: .opening)
        connections.setTransport(slot, .webSocket)
        connections.setDeflateBits(slot, upgrade.deflateBits)
        let dismissal = admission.turningAway(slot)
        if isHeldBack, dismissal == nil {
            watching.holdBack(upgrade.answer, for: slot)
        } else {
            connections.settle(output.send(upgrade.answer, over: slot), of: slot)
        }
        guard let dismissal else { return true }
        connections.end(slot, .dismissal(dismissal))
        return false
    }

    /// Sets the time at which a watcher's token stops being good. A long-poll ends by itself before that
    /// matters.
    private func scheduleExpiry(_ slot: UInt32, of access: Access) {
        guard case .bearer(let token) = access else { return }
        let seconds = token.expiresAt + AccessToken.leewaySeconds - Int(Clock.wallMilliseconds() / 1_000)
        connections.scheduleExpiry(
            slot, at: context.tick(afterSeconds: min(max(0, seconds), Limits.longestExpirySeconds)))
    }
}
