// A worker's connections: reading and closing.

import Fanout
import Glibc
import Reactor
import Telemetry
import TransportSecurity
import Wire

extension Worker {
    func token(_ slot: UInt32) -> UInt64 {
        UInt64(slab[slot].generation) << 32 | UInt64(slot)
    }

    // MARK: Reading

    func handleConnection(_ slot: UInt32, _ event: Poller.Event) {
        let generation = slab[slot].generation
        if event.isWritable, slab[slot].phase != .securing { flushBacklog(slot) }
        let isDue = event.isReadable || event.isBroken || slab[slot].phase == .securing
        guard isDue, slab.isCurrent(slot, generation: generation) else { return }
        readConnection(slot)
    }

    func readConnection(_ slot: UInt32) {
        guard slab[slot].phase != .securing else { return continueSecuring(slot) }
        // The poller tells again of what is left in the socket.
        guard stepBudget > 0, !slab[slot].flags.contains(.isDeferred) else { return }
        switch receive(slot) {
        case .wouldBlock: return
        case .closed, .failed: return closeNow(slot)
        case .bytes(let count):
            answersPing = slab[slot].flags.contains(.awaitsPong)
            slab[slot].flags.remove(.awaitsPong)
            if slab[slot].phase == .lingering { return }
            take(slot, UnsafeMutableRawBufferPointer(rebasing: receiveBuffer[..<count]))
        }
    }

    /// Takes in received bytes, joined with what was kept of before.
    // SAFETY: `received` is part of the loop's receive buffer, or of a local array that outlives the call;
    // nothing called from here keeps it.
    private func take(_ slot: UInt32, _ received: UnsafeMutableRawBufferPointer) {
        guard slab[slot].flags.contains(.hasInput), var input = inputs.removeValue(forKey: slot) else {
            var input = Input()
            return process(slot, received, &input)
        }
        slab[slot].flags.remove(.hasInput)
        guard !input.bytes.isEmpty else { return process(slot, received, &input) }
        var joined = input.bytes
        input.bytes = []
        joined.append(contentsOf: received)
        joined.withUnsafeMutableBytes { process(slot, $0, &input) }
    }

    /// Goes on with what came while an earlier request waited for its answer, or earlier answers for the
    /// client to read, or was more than a turn allows. Half of a turn's steps are left for what comes new.
    func readKeptInput() {
        guard !keptInput.isEmpty else { return }
        var tokens: [UInt64] = []
        swap(&tokens, &keptInput)
        for (index, token) in tokens.enumerated() {
            guard stepBudget > Limits.stepsPerTurn / 2 else {
                keptInput.insert(contentsOf: tokens[index...], at: 0)
                return
            }
            let slot = UInt32(truncatingIfNeeded: token)
            guard slab.isCurrent(slot, generation: UInt32(truncatingIfNeeded: token >> 32)) else { continue }
            let mayGoOn =
                slab[slot].phase == .readingHead || slab[slot].phase == .readingBody
                || slab[slot].transport == .webSocket
            // What waits for an answer waits longer, but the socket must be heard.
            if mayGoOn { processKept(slot) } else { slab[slot].flags.remove(.isDeferred) }
        }
    }

    /// Goes on with what was kept because it could not be interpreted yet.
    private func processKept(_ slot: UInt32) {
        slab[slot].flags.remove(.isDeferred)
        guard slab[slot].flags.contains(.hasInput), var input = inputs.removeValue(forKey: slot) else {
            return
        }
        slab[slot].flags.remove(.hasInput)
        var bytes = input.bytes
        input.bytes = []
        bytes.withUnsafeMutableBytes { process(slot, $0, &input) }
    }

    /// Interprets `bytes` as far as they go and keeps the rest.
    private func process(_ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, _ input: inout Input) {
        let generation = slab[slot].generation
        var position = 0
        var steps = 0
        while position < bytes.count, slab.isCurrent(slot, generation: generation) {
            guard steps < Limits.stepsPerRead, stepBudget > 0 else {
                slab[slot].flags.insert(.isDeferred)
                keptInput.append(token(slot))
                break
            }
            steps += 1
            stepBudget -= 1
            let consumed: Int
            switch slab[slot].phase {
            // The next request waits until the answer to this one is out.
            case .readingHead where isCongested(slot): consumed = 0
            case .readingHead:
                consumed = readHead(slot, UnsafeRawBufferPointer(rebasing: bytes[position...]))
            case .readingBody:
                consumed = readBody(slot, UnsafeRawBufferPointer(rebasing: bytes[position...]))
            case .bundling where isCongested(slot): consumed = 0
            case .awaitingSnapshot, .watching, .bundling, .echoing, .closing:
                switch slab[slot].transport {
                case .webSocket: consumed = readFrame(slot, bytes, from: position, &input)
                // Nothing can follow the request of an answer without end; but the answer may still become
                // one with.
                case .eventStream:
                    guard openRequests[slot] != nil else { return }
                    consumed = 0
                // The next request waits until this one is answered.
                case .longPoll, .http, .subscription: consumed = 0
                }
            case .free, .securing, .lingering: return
            }
            guard consumed > 0 else { break }
            position += consumed
        }
        guard slab.isCurrent(slot, generation: generation), slab[slot].phase != .lingering else { return }
        if position < bytes.count { input.bytes = Array(bytes[position...]) }
        guard !input.isEmpty else { return }
        let waitsForAnswer = slab[slot].transport == .longPoll || slab[slot].transport == .eventStream
        guard !waitsForAnswer || input.bytes.count <= Limits.pipelinedBytes else {
            handle.counters.refusedHeads.add()
            return closeNow(slot)
        }
        if slab[slot].flags.contains(.isIdle), slab[slot].phase == .readingHead,
            !RequestHead.isOnlyLineEnds(input.bytes.span)
        {
            // The next request has begun.
            slab[slot].flags.remove(.isIdle)
            schedule(slot, seconds: configuration.headSeconds)
        }
        inputs[slot] = input
        slab[slot].flags.insert(.hasInput)
        guard isCongested(slot) else { return }
        slab[slot].flags.insert(.isPaused)
        poller.modify(slab[slot].descriptor, .writable, token: token(slot))
    }

    // MARK: Closing

    /// Ends a connection at once, without a word.
    func closeNow(_ slot: UInt32) {
        leaveAll(slot)
        timers.cancel(slot)
        if slab[slot].flags.contains(.isDeparting) { departures.cancel(slot) }
        if slab[slot].flags.contains(.expires) { expiries.cancel(slot) }
        if !clients.isEmpty { forgetClient(slot) }
        if !talkers.isEmpty { talkers.removeValue(forKey: slot) }
        if slab[slot].flags.contains(.hasInput) { inputs.removeValue(forKey: slot) }
        if slab[slot].transport != .webSocket { openRequests.removeValue(forKey: slot) }
        if !bodies.isEmpty { bodies.removeValue(forKey: slot) }
        if slab[slot].flags.contains(.hasBacklog) {
            backlogs.removeValue(forKey: slot)
            noteBacklogGone()
        }
        if slab[slot].flags.contains(.isSecure) { endSession(slot) }
        // Closing takes the descriptor out of the poller: nobody else holds it.
        Sockets.close(slab[slot].descriptor)
        countConnection(slab[slot].flags.contains(.isAdmin) ? .admin : .plain, -1)
        slab.remove(slot)
        handle.counters.connections.set(connectionCount)
    }

    /// Tells a watcher to leave, in the words of its transport; nothing queued is sent any more. A watcher
    /// that is leaving already is left alone.
    /// - Parameter retryMilliseconds: when to come back, where that is not left to the client.
    func dismiss(_ slot: UInt32, _ code: UInt16, _ message: String, retryMilliseconds: Int? = nil) {
        switch slab[slot].phase {
        case .awaitingSnapshot, .watching, .bundling, .echoing: break
        case .free, .securing, .readingHead, .readingBody, .closing, .lingering: return
        }
        switch slab[slot].transport {
        case .webSocket:
            let reason = retryMilliseconds.map { #"{"retry_after_ms":\#($0)}"# } ?? message
            beginClose(slot, code, reason: reason)
        case .eventStream: closeStream(slot, code, message, retryMilliseconds: retryMilliseconds)
        case .longPoll: refusePoll(slot, retryMilliseconds: retryMilliseconds)
        case .subscription: dismissSubscription(slot, code, message, retryMilliseconds: retryMilliseconds)
        case .http: closeNow(slot)
        }
    }

    /// Begins the WebSocket closing handshake from our side: nothing queued is sent any more, only the close
    /// frame.
    func beginClose(_ slot: UInt32, _ code: UInt16, reason: String = "") {
        switch slab[slot].phase {
        case .awaitingSnapshot, .watching, .bundling, .echoing: break
        case .free, .securing, .readingHead, .readingBody, .closing, .lingering: return
        }
        leaveAll(slot)
        slab[slot].phase = .closing
        schedule(slot, seconds: Limits.closeTimeoutSeconds)
        if slab[slot].flags.contains(.hasBacklog) {
            backlogs[slot]?.dropQueued()
            // The peer's close frame must be heard.
            resumeReading(slot)
        }
        sendControl(slot, WebSocketFrame.close(code, reason: reason))
    }

    /// Answers the peer's close frame and ends the connection.
    func answerClose(_ slot: UInt32, _ code: UInt16?) {
        // The peer has said so before, and what was to be said is on its way.
        guard !slab[slot].flags.contains(.closesAfterFlush) else { return }
        let generation = slab[slot].generation
        if slab[slot].phase != .closing {
            leaveAll(slot)
            slab[slot].phase = .closing
            if slab[slot].flags.contains(.hasBacklog) { backlogs[slot]?.dropQueued() }
            sendControl(slot, code.map { WebSocketFrame.close($0) } ?? WebSocketFrame.encode(.close, []))
        }
        if slab.isCurrent(slot, generation: generation) { closeAfterFlush(slot) }
    }

    /// Closes when what waits has been written. A peer that may still be sending has our side shut down
    /// first, and its bytes are read and forgotten, so that it sees our last words and not a reset.
    func closeAfterFlush(_ slot: UInt32) {
        schedule(slot, seconds: Limits.closeTimeoutSeconds)
        // Both close frames are exchanged: the peer has nothing more to say (RFC 6455, 7.1.1).
        let isSettled = slab[slot].transport == .webSocket && !slab[slot].flags.contains(.discardsInput)
        if !isSettled { slab[slot].phase = .lingering }
        guard !slab[slot].flags.contains(.hasBacklog) else {
            slab[slot].flags.insert(.closesAfterFlush)
            return
        }
        if slab[slot].flags.contains(.isSecure) { sessions[slot]?.session.announceEnd() }
        if isSettled { closeNow(slot) } else { Sockets.shutdownWriting(slab[slot].descriptor) }
    }

    /// Closes a WebSocket whose peer broke the protocol: what else it sends is not looked at.
    func closeViolator(_ slot: UInt32, _ code: UInt16, reason: String = "") {
        handle.counters.protocolErrors.add()
        let generation = slab[slot].generation
        beginClose(slot, code, reason: reason)
        guard slab.isCurrent(slot, generation: generation) else { return }
        slab[slot].flags.insert(.discardsInput)
        closeAfterFlush(slot)
    }
}
