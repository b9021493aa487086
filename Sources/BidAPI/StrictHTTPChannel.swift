// HTTP/1.1 as strict as the gateway's, with the same parser. `Wire` checks each request's bytes before the
// library's own, more lenient decoder sees them. This file also adds what that decoder lacks: `Expect:
// 100-continue`, deadlines for heads and bodies, and an error response to a refused request.

import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTPTypes
import Reactor
import Wire

/// A connection of the bid API.
struct StrictHTTPChannel: ServerChildChannel {
    private let http: HTTP1Channel

    init(responder: @escaping HTTPChannelHandler.Responder) {
        http = HTTP1Channel(
            responder: responder, configuration: .init(additionalChannelHandlers: [AnswerNotifier()]))
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<HTTP1Channel.Value> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandlers([
                IdleStateHandler(readTimeout: Limits.silentClient), StrictRequestHandler(),
            ])
        }.flatMap { http.setup(channel: channel, logger: logger) }
    }

    func handle(value: HTTP1Channel.Value, logger: Logger) async {
        await http.handle(value: value, logger: logger)
    }
}

/// Sent towards the socket behind the last byte of each answer.
private struct AnswerEnded: Sendable {}

/// Stands behind the library's codec and tells ``StrictRequestHandler`` when an answer has ended.
private final class AnswerNotifier: ChannelOutboundHandler, RemovableChannelHandler {
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        context.write(data, promise: promise)
        if case .end = part { context.triggerUserOutboundEvent(AnswerEnded(), promise: nil) }
    }
}

/// Checks a connection's requests byte by byte and passes them on as they came. Confined to the connection's
/// event loop.
private final class StrictRequestHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        /// Before a head or in it. Can transition to: body, last, refusing.
        case head
        /// Can transition to: head, last, refusing.
        case body(Wire.RequestBody)
        /// The client's last request has arrived. The connection ends after its answer. Further input is
        /// dropped.
        case last
        /// A request was refused. The refusal waits for the answers to earlier requests. Can transition to:
        /// refused.
        case refusing(Wire.HTTPResponse, behind: Int)
        /// The refusal was sent. Nothing else is sent, and further input is dropped.
        case refused
    }

    private var state = State.head
    /// The beginning of a head, at most ``Limits/headBytes``. While too many requests are unanswered, also
    /// the rest of the last read.
    private var held: [UInt8] = []
    /// True while requests in ``held`` wait for answers to earlier ones. Nothing is read meanwhile.
    private var isHolding = false
    private var isReadWanted = false
    /// True when the request that is arriving is the connection's last one.
    private var endsAfterRequest = false
    /// True while the client waits for "100 Continue" and earlier answers are still outstanding.
    private var owesContinue = false
    /// Requests whose answer has not ended.
    private var unanswered = 0
    private var deadline: Scheduled<Void>?

    // MARK: In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = held
        held = []
        bytes.append(contentsOf: unwrapInboundIn(data).readableBytesView)
        process(bytes, context)
    }

    func read(context: ChannelHandlerContext) {
        if isHolding { isReadWanted = true } else { context.read() }
    }

    private func process(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        var position = 0
        while position < bytes.count {
            let rest = bytes.span.extracting(position...)
            let consumed: Int
            switch state {
            case .head where unanswered >= Limits.pipelinedRequests:
                isHolding = true
                consumed = 0
            case .head: consumed = readHead(rest, context)
            case .body(let body):
                // Take the body out of the state while it changes, so that its bytes are not copied.
                state = .head
                consumed = readBody(rest, body, context)
            case .last, .refusing, .refused: return
            }
            guard consumed > 0 else {
                held = Array(bytes[position...])
                return
            }
            position += consumed
        }
    }

    /// Goes on with the requests that waited for answers to earlier ones.
    private func resume(_ context: ChannelHandlerContext) {
        let bytes = held
        held = []
        process(bytes, context)
        context.fireChannelReadComplete()
        guard isReadWanted, !isHolding else { return }
        isReadWanted = false
        context.read()
    }

    private func pass(_ bytes: Span<UInt8>, _ count: Int, _ context: ChannelHandlerContext) {
        var buffer = context.channel.allocator.buffer(capacity: count)
        // SAFETY: the bytes are copied within the call.
        bytes.extracting(..<count).withUnsafeBytes { _ = buffer.writeBytes($0) }
        context.fireChannelRead(wrapInboundOut(buffer))
    }

    /// Returns how many bytes the head took; 0 when it is not complete.
    private func readHead(_ bytes: Span<UInt8>, _ context: ChannelHandlerContext) -> Int {
        switch RequestHead.parse(bytes, maximumBytes: Limits.headBytes) {
        case .incomplete:
            // Line ends after a body do not begin a request.
            if deadline == nil, !RequestHead.isOnlyLineEnds(bytes) { setDeadline(Limits.headTime, context) }
            return 0
        case .refused(let fault):
            refuse(Self.response(to: fault), behind: 0, context)
            return bytes.count
        case .complete(let head, let consumed):
            clearDeadline()
            unanswered += 1
            endsAfterRequest = !head.keepsAlive
            guard head.hasBody else {
                state = endsAfterRequest ? .last : .head
                pass(bytes, consumed, context)
                return consumed
            }
            guard let body = Wire.RequestBody(head, maximumBytes: Limits.bodyBytes) else {
                refuse(Self.tooLarge, behind: 1, context)
                return bytes.count
            }
            state = .body(body)
            setDeadline(Limits.bodyTime, context)
            pass(bytes, consumed, context)
            guard head.expectsContinue, consumed == bytes.count else { return consumed }
            // With an earlier answer outstanding, the client would take the 100 response for part of that
            // one.
            if unanswered == 1 { send(Wire.HTTPResponse.goOn, context) } else { owesContinue = true }
            return consumed
        }
    }

    private func readBody(
        _ bytes: Span<UInt8>, _ body: consuming Wire.RequestBody, _ context: ChannelHandlerContext
    ) -> Int {
        owesContinue = false
        switch body.take(bytes) {
        case .more(let consumed):
            state = .body(body)
            pass(bytes, consumed, context)
            return consumed
        case .complete(let consumed):
            state = endsAfterRequest ? .last : .head
            clearDeadline()
            pass(bytes, consumed, context)
            // The library may have answered without waiting for the body.
            if endsAfterRequest, unanswered == 0 { end(context) }
            return consumed
        case .malformed:
            refuse(
                .error(.badRequest, "VALIDATION_ERROR", "the request's body is malformed"), behind: 1, context
            )
        case .tooLarge: refuse(Self.tooLarge, behind: 1, context)
        }
        return bytes.count
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            context.close(promise: nil)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        clearDeadline()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        clearDeadline()
    }

    // MARK: Times

    private func setDeadline(_ time: TimeAmount, _ context: ChannelHandlerContext) {
        clearDeadline()
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: time) { [self] in
            deadline = nil
            var behind = 0
            if case .body = state { behind = 1 }
            refuse(
                .error(.requestTimeout, "REQUEST_TIMEOUT", "the request did not arrive in time"),
                behind: behind,
                context)
        }
    }

    private func clearDeadline() {
        deadline?.cancel()
        deadline = nil
    }

    // MARK: Out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .refused = state else { return context.write(data, promise: promise) }
        promise?.fail(ChannelError.outputClosed)
    }

    func triggerUserOutboundEvent(
        context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
    ) {
        guard event is AnswerEnded else { return context.triggerUserOutboundEvent(event, promise: promise) }
        unanswered -= 1
        switch state {
        case .refusing(let response, let behind): refuse(response, behind: behind, context)
        case .last where unanswered == 0: end(context)
        case .body where owesContinue && unanswered == 1:
            owesContinue = false
            send(Wire.HTTPResponse.goOn, context)
        case .head where isHolding && unanswered < Limits.pipelinedRequests:
            isHolding = false
            // Not within the answer that is being written.
            context.eventLoop.assumeIsolated().execute { [self] in resume(context) }
        case .head, .body, .last, .refused: break
        }
    }

    /// Answers with `response` as soon as earlier requests are answered, and ends the connection.
    /// - Parameter behind: 1 when `response` replaces the answer to a request that was already passed on,
    ///   otherwise 0.
    private func refuse(_ response: Wire.HTTPResponse, behind: Int, _ context: ChannelHandlerContext) {
        clearDeadline()
        held = []
        guard unanswered <= behind else {
            state = .refusing(response, behind: behind)
            return
        }
        // The library has answered already, without waiting for the body.
        guard unanswered == behind else { return context.close(promise: nil) }
        state = .refused
        let date = HTTPDate.text(seconds: Clock.wallMilliseconds() / 1_000)
        send(response.encoded(keepAlive: false, date: date), context)
        end(context)
    }

    /// Ends the connection after the bytes that were sent. The input stays open for a while. Otherwise, bytes
    /// still on their way would reset the connection, and the client would lose the answer.
    private func end(_ context: ChannelHandlerContext) {
        context.flush()
        context.close(mode: .output, promise: nil)
        _ = context.eventLoop.assumeIsolated().scheduleTask(in: Limits.refusalTime) {
            context.close(promise: nil)
        }
    }

    private func send(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        context.writeAndFlush(wrapOutboundOut(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    private static let tooLarge = Wire.HTTPResponse.error(
        .contentTooLarge, "CONTENT_TOO_LARGE", "the body is over \(Limits.bodyBytes) bytes")

    private static func response(to fault: RequestHead.Fault) -> Wire.HTTPResponse {
        switch fault {
        case .malformed: .error(.badRequest, "VALIDATION_ERROR", "the request's head is malformed")
        case .tooLarge:
            .error(
                .headTooLarge, "HEAD_TOO_LARGE",
                "the request's head is over \(Limits.headBytes) bytes or \(RequestHead.maximumFields) fields")
        case .targetTooLong:
            .error(
                .targetTooLong, "TARGET_TOO_LONG",
                "the request's target is over \(RequestHead.maximumTargetBytes) bytes")
        }
    }
}
