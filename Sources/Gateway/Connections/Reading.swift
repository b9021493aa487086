// Reading from connections: bytes from the socket or the TLS session, joined with what was kept, and handed
// to the interpreter that the phase asks for. Input that cannot be interpreted yet is kept, within bounds.

import Fanout
import Reactor
import Telemetry
import Wire

extension Connections {
    /// Receives once and interprets what came.
    func read(_ slot: UInt32, with handler: any InputHandler) {
        guard !self[slot].flags.contains(.isEnding) else { return }
        guard self[slot].phase != .introducing else { return readIntroduction(slot, with: handler) }
        guard self[slot].phase != .securing else { return continueSecuring(slot, with: handler) }
        // The poller reports again what is left in the socket.
        guard stepBudget > 0, !self[slot].flags.contains(.isDeferred) else { return }
        switch receive(slot) {
        case .wouldBlock: return
        case .closed, .failed: end(slot, .abrupt)
        case .bytes(let count):
            noteReceived(slot)
            if self[slot].phase == .lingering { return }
            take(slot, UnsafeMutableRawBufferPointer(rebasing: receiveBuffer[..<count]), with: handler)
        }
    }

    /// Interprets received bytes, joined with what was kept.
    // SAFETY: `received` is part of the loop's receive buffer, or of a local array that outlives the call;
    // nothing called from here keeps it.
    private func take(
        _ slot: UInt32, _ received: UnsafeMutableRawBufferPointer, with handler: any InputHandler
    ) {
        guard self[slot].flags.contains(.hasInput), var input = inputs.removeValue(forKey: slot) else {
            var input = PartialInput()
            return interpret(slot, received, &input, with: handler)
        }
        unmark(slot, .hasInput)
        guard !input.bytes.isEmpty else { return interpret(slot, received, &input, with: handler) }
        var joined = input.bytes
        input.bytes = []
        joined.append(contentsOf: received)
        joined.withUnsafeMutableBytes { interpret(slot, $0, &input, with: handler) }
    }

    /// Queues the connection, so that its kept input is interpreted again.
    func readAgain(_ slot: UInt32) {
        keptInput.append(token(slot))
    }

    /// Queues input that is more than a turn allows. Nothing is received before this input has had its turn.
    func deferInput(_ slot: UInt32) {
        mark(slot, .isDeferred)
        readAgain(slot)
    }

    /// True while input waits to be looked at again.
    var hasKeptInput: Bool { !keptInput.isEmpty }

    /// True while this turn may interpret more input.
    var hasStepsLeft: Bool { stepBudget > 0 }

    /// Interprets kept input. An earlier request was waiting for its answer, the client had not read earlier
    /// answers, or the input was more than a turn allows. Half of a turn's steps are left for new input.
    func readKeptInput(with handler: any InputHandler) {
        guard !keptInput.isEmpty else { return }
        var tokens: [UInt64] = []
        swap(&tokens, &keptInput)
        for (index, token) in tokens.enumerated() {
            guard stepBudget > Limits.stepsPerTurn / 2 else {
                keptInput.insert(contentsOf: tokens[index...], at: 0)
                return
            }
            guard let slot = slot(of: token) else { continue }
            let mayGoOn =
                self[slot].phase == .readingHead || self[slot].phase == .readingBody
                || self[slot].transport == .webSocket
            // Input that waits for an answer waits longer, but the socket must be read again.
            unmark(slot, .isDeferred)
            guard mayGoOn, !self[slot].flags.contains(.isEnding), self[slot].flags.contains(.hasInput),
                var input = inputs.removeValue(forKey: slot)
            else { continue }
            unmark(slot, .hasInput)
            var bytes = input.bytes
            input.bytes = []
            bytes.withUnsafeMutableBytes { interpret(slot, $0, &input, with: handler) }
        }
    }

    /// Interprets `bytes` as far as that is possible now and keeps the rest.
    private func interpret(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, _ input: inout PartialInput,
        with handler: any InputHandler
    ) {
        var position = 0
        var steps = 0
        while position < bytes.count, !self[slot].flags.contains(.isEnding) {
            guard steps < Limits.stepsPerRead, stepBudget > 0 else {
                deferInput(slot)
                break
            }
            steps += 1
            stepBudget -= 1
            guard let consumed = step(slot, bytes, from: position, &input, with: handler) else { return }
            guard consumed > 0 else { break }
            position += consumed
        }
        // After an answer that closes the connection, the remaining input is dropped.
        let isDone = self[slot].flags.contains(.isEnding) && self[slot].phase == .readingHead
        guard !isDone, self[slot].phase != .lingering else { return }
        if position < bytes.count { input.bytes = Array(bytes[position...]) }
        if !input.isEmpty { keep(input, of: slot) }
    }

    /// Makes the step that the phase asks for. Returns how many bytes it took: 0 when these must wait, `nil`
    /// when all input is discarded.
    private func step(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from position: Int,
        _ input: inout PartialInput, with handler: any InputHandler
    ) -> Int? {
        switch self[slot].phase {
        // The next request waits until the answer to this one is out.
        case .readingHead, .multiplexing: if isCongested(slot) { return 0 }
        case .readingBody, .joining, .watching, .echoing, .closing: break
        case .free, .introducing, .securing, .opening, .lingering: return nil
        }
        switch (self[slot].phase, self[slot].transport) {
        case (.readingHead, _):
            return handler.takeHead(slot, UnsafeRawBufferPointer(rebasing: bytes[position...]), &input)
        case (.readingBody, _):
            return handler.takeBody(slot, UnsafeRawBufferPointer(rebasing: bytes[position...]), &input)
        case (_, .webSocket): return handler.takeFrame(slot, bytes, from: position, &input)
        // A stream's answer has no end, so no request can follow it. While the answer is open, it may still
        // become one that ends.
        case (_, .eventStream): return self[slot].flags.contains(.isAnswerOpen) ? 0 : nil
        // The next request waits until this one is answered.
        case (_, .longPoll), (_, .http), (_, .subscription): return 0
        }
    }

    /// Takes a connection's incomplete input out.
    func takeInput(_ slot: UInt32) -> PartialInput {
        guard self[slot].flags.contains(.hasInput) else { return PartialInput() }
        unmark(slot, .hasInput)
        return inputs.removeValue(forKey: slot) ?? PartialInput()
    }

    /// Gives a connection that came from another process its incomplete input, to be looked at soon.
    func restore(_ input: PartialInput, of slot: UInt32) {
        inputs[slot] = input
        mark(slot, .hasInput)
        if !input.bytes.isEmpty { deferInput(slot) }
    }

    private func keep(_ input: PartialInput, of slot: UInt32) {
        let waitsForAnswer = self[slot].transport == .longPoll || self[slot].transport == .eventStream
        guard !waitsForAnswer || input.bytes.count <= Limits.pipelinedBytes else {
            context.counters.refusedHeads.add()
            return end(slot, .abrupt)
        }
        if self[slot].flags.contains(.isIdle), self[slot].phase == .readingHead,
            !RequestHead.isOnlyLineEnds(input.bytes.span)
        {
            // The next request has begun.
            unmark(slot, .isIdle)
            schedule(slot, seconds: context.configuration.headSeconds)
        }
        inputs[slot] = input
        mark(slot, .hasInput)
        guard isCongested(slot) else { return }
        mark(slot, .isPaused)
        updateInterest(slot)
    }
}
