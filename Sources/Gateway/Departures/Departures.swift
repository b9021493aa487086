// Sends watchers away, and ends connections. A crowd leaves one after another, spread over a time and bounded
// in each turn. So the fan-out goes on in between, and the clients do not all come back at once.
// Departures.swift: crowds, in a drain, at an operator's disconnect, and when a topic cannot be watched any
// longer. Endings.swift: the last words and the end of a single connection.

import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Wire

/// Watchers that are to leave, and why.
private struct Exit {
    let cause: Departures.Cause
    /// The topic that they must still watch when their turn comes; `nil` for any.
    let topic: Topic?
    var queue: PacedQueue
}

final class Departures {
    enum Cause {
        case drain
        case disconnect
        case refusal(RefusalReason)
    }

    let context: LoopContext
    let connections: Connections
    let output: Output
    let watching: Watching
    let admission: Admission

    private var exits: [Exit] = []

    init(
        context: LoopContext, connections: Connections, output: Output, watching: Watching,
        admission: Admission
    ) {
        self.context = context
        self.connections = connections
        self.output = output
        self.watching = watching
        self.admission = admission
    }

    /// True while a watcher is due to leave.
    var hasWork: Bool { exits.contains { $0.queue.isDue(now: context.nowMilliseconds) } }

    // MARK: Crowds

    /// Sends watchers away, in random order.
    /// - Parameters:
    ///   - tokens: of connections or subscriptions.
    ///   - milliseconds: over how long the departures are spread.
    private func sendAway(_ tokens: [UInt64], for cause: Cause, on topic: Topic? = nil, milliseconds: Int64) {
        guard !tokens.isEmpty else { return }
        let queue = PacedQueue(
            tokens.shuffled(using: &context.generator), startedAt: context.nowMilliseconds,
            milliseconds: milliseconds)
        exits.append(Exit(cause: cause, topic: topic, queue: queue))
    }

    /// Tells the watchers that are due by now to leave, within the turn's budget.
    func turn(with handler: any InputHandler) {
        var budget = Limits.exitsPerTurn
        for index in exits.indices {
            while budget > 0, let token = exits[index].queue.next(now: context.nowMilliseconds) {
                budget -= 1
                guard let slot = connections.slot(of: token) else { continue }
                // A long-poll's connection may have gone on to another auction.
                if let topic = exits[index].topic, watching.channel(of: slot)?.topic != topic { continue }
                leave(slot, for: exits[index].cause, with: handler)
            }
        }
        exits.removeAll { $0.queue.isEmpty }
    }

    private func leave(_ slot: UInt32, for cause: Cause, with handler: any InputHandler) {
        switch cause {
        case .drain: leaveDraining(slot, with: handler)
        case .disconnect where connections[slot].owner != ConnectionSlab.none:
            watching.disconnectSubscription(slot)
        case .disconnect:
            dismiss(
                slot, CloseCode.serviceRestart, "reconnect",
                retryMilliseconds: context.promptRetryMilliseconds())
        case .refusal(let reason):
            dismiss(
                slot, CloseCode.tryAgainLater, reason.message,
                retryMilliseconds: context.retryMilliseconds())
        }
    }

    private func dismiss(_ slot: UInt32, _ code: UInt16, _ message: String, retryMilliseconds: Int? = nil) {
        connections.end(
            slot,
            .dismissal(Dismissal(code: code, message: message, retryMilliseconds: retryMilliseconds)))
    }

    /// Sends away the watchers of a topic that can no longer be watched.
    func refuse(_ topic: Topic, _ reason: RefusalReason) {
        context.counters.refusals.add(reason == .tooManyAuctions ? .auctions : .topic)
        sendAway(watching.refuse(topic), for: .refusal(reason), on: topic, milliseconds: 0)
    }

    // MARK: Drain

    /// Starts the drain: closes are spread over `drain-seconds`. The listeners stay open, except with
    /// `reuse-port`. Requests are answered, on connections that are then closed. New watchers are told when
    /// to come back.
    func beginDrain(with handler: any InputHandler) {
        guard !context.isDraining else { return }
        context.beginDraining()
        // Other gateways that share the port take new clients. Clients that have arrived here are answered.
        if context.configuration.reusePort {
            admission.closeListeners(with: handler, afterEach: workOffEndings)
        }
        drain(connections.all.filter { !connections[$0].flags.contains(.isAdmin) })
    }

    /// Sends connections of a draining gateway away.
    func drain(_ slots: [UInt32]) {
        sendAway(
            slots.map(connections.token), for: .drain,
            milliseconds: Int64(context.configuration.drainSeconds) * 1_000)
    }

    private func leaveDraining(_ slot: UInt32, with handler: any InputHandler) {
        switch connections[slot].phase {
        case .joining, .watching, .multiplexing, .echoing:
            dismiss(
                slot, CloseCode.goingAway, Admission.leaving,
                retryMilliseconds: context.retryMilliseconds())
        // A request may be on its way. It is answered when it arrives, or its own time runs out.
        case .introducing, .securing, .readingBody: break
        case .readingHead where connections[slot].flags.contains(.isIdle): closeIdle(slot, with: handler)
        case .readingHead:
            // A connection that has sent nothing gets only a short time.
            guard !connections[slot].flags.contains(.hasInput) else { break }
            connections.schedule(slot, seconds: Limits.drainHeadSeconds)
        case .free, .opening, .closing, .lingering: break
        }
    }

    /// Closes an idle keep-alive connection, unless a request has just arrived on it.
    private func closeIdle(_ slot: UInt32, with handler: any InputHandler) {
        connections.read(slot, with: handler)
        guard connections[slot].flags.contains(.isIdle), !connections[slot].flags.contains(.isEnding) else {
            return
        }
        // With no budget left for this turn nothing was read.
        guard connections.hasStepsLeft else {
            return sendAway([connections.token(slot)], for: .drain, milliseconds: 0)
        }
        connections.end(slot, .abrupt)
    }

    // MARK: Disconnect

    /// Sends away the watchers of one auction, or all, spread over `drain-seconds`. Each gets a retry time.
    func disconnectWatchers(_ auctionID: String?) {
        let milliseconds = Int64(context.configuration.drainSeconds) * 1_000
        if let topic = auctionID.map(Topic.auction) {
            return sendAway(
                watching.watchers(of: topic), for: .disconnect, on: topic, milliseconds: milliseconds)
        }
        let tokens = connections.all.filter { slot in
            switch connections[slot].phase {
            case .joining, .watching, .multiplexing: true
            case .free, .introducing, .securing, .readingHead, .readingBody, .opening, .echoing, .closing,
                .lingering:
                false
            }
        }.map(connections.token)
        sendAway(tokens, for: .disconnect, milliseconds: milliseconds)
    }

    // MARK: Single watchers

    /// The auction of this watcher is over, and it has stayed long enough.
    func auctionIsOver(_ slot: UInt32) {
        // A watcher that has not taken everything stays until it has, or until it is too slow.
        guard !connections[slot].flags.contains(.hasBacklog) else {
            return connections.scheduleDeparture(slot, at: context.tick(afterSeconds: 1))
        }
        dismiss(slot, CloseCode.normal, "the auction is over")
    }

    func tokenExpired(_ slot: UInt32) {
        context.counters.expiredTokens.add()
        dismiss(slot, CloseCode.policyViolation, "the token has expired")
    }

    /// A TLS handshake has taken too long.
    func handshakeTimedOut(_ slot: UInt32) {
        context.counters.timeouts.add()
        connections.end(slot, .abrupt)
    }

    /// A watcher has waited too long for its first message.
    func firstMessageTimedOut(_ slot: UInt32) {
        context.counters.timeouts.add()
        dismiss(
            slot, CloseCode.tryAgainLater, "the auction cannot be read now",
            retryMilliseconds: context.retryMilliseconds())
    }
}
