// How a worker sends many away: in a drain, at an operator's disconnect, and when a topic cannot be watched
// any longer. One after another, spread over a time and bounded in each turn, so that the fan-out goes on in
// between and the clients do not all come back at once.

import Fanout
import Reactor
import Telemetry
import Wire

/// Some who are to leave, and why.
struct Exit {
    enum Cause {
        case drain
        case disconnect
        case refusal(RefusalReason)
    }

    let cause: Cause
    /// The topic they must still watch when their turn comes; `nil` for any.
    let topic: Topic?
    var queue: PacedQueue
}

extension Worker {
    /// Sends watchers away, in random order.
    /// - Parameters:
    ///   - tokens: slot and generation of connections or subscriptions.
    ///   - milliseconds: over how long it is spread.
    func sendAway(
        _ tokens: [UInt64], for cause: Exit.Cause, on topic: Topic? = nil, milliseconds: Int64
    ) {
        guard !tokens.isEmpty else { return }
        let queue = PacedQueue(
            tokens.shuffled(using: &generator), startedAt: nowMilliseconds, milliseconds: milliseconds)
        exits.append(Exit(cause: cause, topic: topic, queue: queue))
    }

    var hasDueExits: Bool { exits.contains { $0.queue.isDue(now: nowMilliseconds) } }

    /// Tells as many to leave as are due by now.
    func continueExits() {
        var budget = Limits.exitsPerTurn
        for index in exits.indices {
            while budget > 0, let token = exits[index].queue.next(now: nowMilliseconds) {
                budget -= 1
                let slot = UInt32(truncatingIfNeeded: token)
                guard slab.isCurrent(slot, generation: UInt32(truncatingIfNeeded: token >> 32)) else {
                    continue
                }
                // A long-poll's connection may have gone on to another auction.
                if let topic = exits[index].topic, self.topic(of: slot) != topic { continue }
                leave(slot, for: exits[index].cause)
            }
        }
        exits.removeAll { $0.queue.isEmpty }
    }

    private func topic(of slot: UInt32) -> Topic? {
        let channel = slab[slot].channel
        return channel == ConnectionSlab.none ? nil : channels[Int(channel)]?.topic
    }

    private func leave(_ slot: UInt32, for cause: Exit.Cause) {
        switch cause {
        case .drain: leaveDraining(slot)
        case .disconnect where slab[slot].owner != ConnectionSlab.none: disconnectSubscription(slot)
        case .disconnect:
            dismiss(
                slot, CloseCode.serviceRestart, "reconnect",
                retryMilliseconds: Int.random(in: Limits.promptReturnMilliseconds, using: &generator))
        case .refusal(let reason):
            dismiss(
                slot, CloseCode.tryAgainLater, reason.message, retryMilliseconds: retryMilliseconds())
        }
    }

    // MARK: Drain

    /// Starts the drain: closes are spread over `drain-seconds`. The listeners stay open. New clients, and
    /// clients in the middle of a request, get an answer that says when to come back.
    func beginDrain() {
        guard drainStartedAt == nil else { return }
        drainStartedAt = nowMilliseconds
        // Other gateways that share the port take new clients. Clients that have arrived here are answered.
        if configuration.reusePort { closeListeners() }
        var tokens: [UInt64] = []
        for slot in 0..<UInt32(slab.highWater)
        where slab.isConnection(slot) && !slab[slot].flags.contains(.isAdmin) {
            tokens.append(token(slot))
        }
        sendAway(tokens, for: .drain, milliseconds: Int64(configuration.drainSeconds) * 1_000)
    }

    private func leaveDraining(_ slot: UInt32) {
        switch slab[slot].phase {
        case .awaitingSnapshot, .watching, .bundling, .echoing:
            dismiss(
                slot, CloseCode.goingAway, Self.leaving, retryMilliseconds: retryMilliseconds())
        // A request may be on its way: it is answered when it is here, or its own time runs out.
        case .securing, .readingBody: break
        case .readingHead where slab[slot].flags.contains(.isIdle): closeIdle(slot)
        case .readingHead:
            // One that says nothing at all is not waited for long.
            if !slab[slot].flags.contains(.hasInput) { schedule(slot, seconds: Limits.drainHeadSeconds) }
        case .free, .closing, .lingering: break
        }
    }

    /// Closes an idle keep-alive connection, unless a request has just arrived on it.
    private func closeIdle(_ slot: UInt32) {
        let generation = slab[slot].generation
        readConnection(slot)
        guard slab.isCurrent(slot, generation: generation), slab[slot].flags.contains(.isIdle) else { return }
        // With no budget left for this turn nothing was read.
        guard stepBudget > 0 else { return sendAway([token(slot)], for: .drain, milliseconds: 0) }
        closeNow(slot)
    }

    /// Accepts every connection in the kernel's queues, which closing would reset, then closes the ports.
    func closeListeners() {
        for (listener, kind) in [(listener, ListenerKind.plain), (secureListener, .secure)] {
            guard let listener else { continue }
            emptyQueue(of: listener, for: kind)
            poller.remove(listener)
            Sockets.close(listener)
        }
        listener = nil
        secureListener = nil
    }

    static let leaving = "this gateway is leaving"

    // MARK: Disconnect

    /// Sends away the watchers of one auction, or all, spread over `drain-seconds`. Each gets a retry time.
    func disconnectWatchers(_ auctionID: String?) {
        let milliseconds = Int64(configuration.drainSeconds) * 1_000
        if let topic = auctionID.map(Topic.auction) {
            let tokens = channelsByTopic[topic].map(watchers) ?? []
            return sendAway(tokens, for: .disconnect, on: topic, milliseconds: milliseconds)
        }
        var tokens: [UInt64] = []
        for slot in 0..<UInt32(slab.highWater) where slab.isConnection(slot) {
            switch slab[slot].phase {
            case .awaitingSnapshot, .watching, .bundling: tokens.append(token(slot))
            case .free, .securing, .readingHead, .readingBody, .echoing, .closing, .lingering: break
            }
        }
        sendAway(tokens, for: .disconnect, milliseconds: milliseconds)
    }
}
