// The last words and the end of single connections. The event loop has the list of endings worked off after
// each step. This is the only place where a connection is closed.

import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Wire

extension Departures {
    /// Ends the connections and subscriptions that a step has put on the list.
    func workOffEndings() {
        while let (slot, ending) = connections.nextEnding() {
            switch ending {
            case .abrupt:
                if isWatching(slot), connections[slot].owner == ConnectionSlab.none {
                    context.counters.closes.add(.abrupt)
                }
                close(slot)
            case .dismissal(let dismissal): dismiss(slot, dismissal)
            case .violation(let code, let reason):
                context.counters.protocolErrors.add()
                context.counters.closes.add(CloseKind(code: code))
                closeViolator(slot, WebSocketFrame.close(code, reason: reason))
            case .peerClosed(let code):
                if isWatching(slot) { context.counters.closes.add(.client) }
                answerClose(slot, code)
            case .afterFlush: closeAfterFlush(slot)
            }
        }
    }

    /// Closes a connection at once, without a word.
    func close(_ slot: UInt32) {
        watching.forget(slot)
        output.forget(slot)
        admission.forget(slot)
        connections.free(slot)
    }

    /// Tells a watcher to leave, in the words of its transport. Queued output is no longer sent. A connection
    /// that is already closing is left alone.
    private func dismiss(_ slot: UInt32, _ dismissal: Dismissal) {
        guard isWatching(slot) else { return }
        if connections[slot].transport == .webSocket || connections[slot].transport == .eventStream {
            context.counters.closes.add(CloseKind(code: dismissal.code))
        }
        switch connections[slot].transport {
        case .webSocket:
            let reason =
                dismissal.retryMilliseconds.map { #"{"retry_after_ms":\#($0)}"# } ?? dismissal.message
            _ = beginClose(slot, WebSocketFrame.close(dismissal.code, reason: reason))
        case .eventStream: closeStream(slot, dismissal)
        case .longPoll: watching.refusePoll(slot, retryMilliseconds: dismissal.retryMilliseconds)
        case .subscription: watching.dismissSubscription(slot, dismissal)
        case .http: preconditionFailure("slot \(slot) watches nothing")
        }
    }

    /// True for a connection or subscription that can be told to leave.
    private func isWatching(_ slot: UInt32) -> Bool {
        switch connections[slot].phase {
        case .opening, .joining, .watching, .multiplexing, .echoing: true
        case .free, .introducing, .securing, .readingHead, .readingBody, .closing, .lingering: false
        }
    }

    /// Begins the WebSocket closing handshake from our side: the close frame is the last thing sent.
    /// - Returns: false when the connection was closing already, or is closed now because its peer takes
    ///   nothing.
    private func beginClose(_ slot: UInt32, _ frame: [UInt8]) -> Bool {
        guard isWatching(slot) else { return false }
        watching.leaveAll(slot)
        connections.transition(slot, to: .closing)
        connections.schedule(slot, seconds: Limits.closeTimeoutSeconds)
        output.dropQueued(slot)
        // The peer's close frame must be heard.
        connections.resumeReading(slot)
        // It may have come together with the message that is to blame.
        if connections[slot].flags.contains(.hasInput) { connections.readAgain(slot) }
        guard output.sendControl(frame, over: slot) != .broken else {
            close(slot)
            return false
        }
        return true
    }

    /// Closes a WebSocket whose peer broke the protocol. Further input from the peer is ignored.
    private func closeViolator(_ slot: UInt32, _ frame: [UInt8]) {
        if connections[slot].phase != .closing {
            guard beginClose(slot, frame) else { return }
        }
        connections.mark(slot, .discardsInput)
        closeAfterFlush(slot)
    }

    /// Answers the peer's close frame and ends the connection.
    private func answerClose(_ slot: UInt32, _ code: UInt16?) {
        // The peer sent its close frame before, and our last words are on their way.
        guard !connections[slot].flags.contains(.closesAfterFlush) else { return }
        if connections[slot].phase != .closing {
            let frame = code.map { WebSocketFrame.close($0) } ?? WebSocketFrame.encode(.close, [])
            guard beginClose(slot, frame) else { return }
        }
        closeAfterFlush(slot)
    }

    /// Ends a stream with a CLOSE event.
    private func closeStream(_ slot: UInt32, _ dismissal: Dismissal) {
        let head = watching.takeHead(slot)
        watching.leaveAll(slot)
        connections.transition(slot, to: .closing)
        output.dropQueued(slot)
        let event = EventEncoder.close(
            code: dismissal.code, message: dismissal.message,
            retryMilliseconds: dismissal.retryMilliseconds)
        guard output.sendControl(head + event, over: slot) != .broken else { return close(slot) }
        closeAfterFlush(slot)
    }

    /// Closes when the waiting output has been written. If the peer may still be sending, shuts our side down
    /// first and discards the peer's bytes. So the peer sees our last words and not a reset.
    private func closeAfterFlush(_ slot: UInt32) {
        connections.schedule(slot, seconds: Limits.closeTimeoutSeconds)
        // Both close frames are exchanged: the peer has nothing more to say (RFC 6455, 7.1.1).
        let isSettled =
            connections[slot].transport == .webSocket && !connections[slot].flags.contains(.discardsInput)
        if !isSettled, connections[slot].phase != .lingering { connections.transition(slot, to: .lingering) }
        guard !connections[slot].flags.contains(.hasBacklog) else {
            connections.mark(slot, .closesAfterFlush)
            return
        }
        connections.announceEnd(slot)
        if isSettled { close(slot) } else { Sockets.shutdownWriting(connections[slot].descriptor) }
    }
}
