// A worker's timers, one a connection: what it means depends on the connection's phase. And the paced ways
// out: after an auction's end, and in a drain.

import Fanout
import Reactor
import Telemetry
import Tokens
import Wire

extension Worker {
    func tick(afterSeconds seconds: Int) -> UInt32 {
        nowTick &+ UInt32(Int64(seconds) * 1_000 / Limits.tickMilliseconds)
    }

    func schedule(_ slot: UInt32, seconds: Int) {
        timers.schedule(slot, at: tick(afterSeconds: seconds))
    }

    /// The time a watcher waits at most for its first message. A poll with a cursor has its own, if that is
    /// shorter.
    func scheduleFirstMessage(_ slot: UInt32) {
        var deadline = tick(afterSeconds: Limits.firstMessageTimeoutSeconds)
        if slab[slot].transport == .longPoll, slab[slot].flags.contains(.hasCursor) {
            deadline = min(deadline, openRequests[slot]?.deadlineTick ?? deadline)
        }
        timers.schedule(slot, at: deadline)
    }

    /// The first ping comes after a random part of the interval, so that a crowd's pings spread out.
    func scheduleHeartbeat(_ slot: UInt32, isFirst: Bool = false) {
        let ticks = Int64(configuration.heartbeatSeconds) * 1_000 / Limits.tickMilliseconds
        let wait = isFirst ? Int64.random(in: ticks / 2...ticks, using: &generator) : ticks
        timers.schedule(slot, at: nowTick &+ UInt32(max(1, wait)))
    }

    /// Conformance suites expect none in a connection's first minute.
    func scheduleEchoHeartbeat(_ slot: UInt32) {
        schedule(slot, seconds: max(60, configuration.heartbeatSeconds))
    }

    func fireTimers() {
        while let slot = timers.popExpired(now: nowTick) { fire(slot) }
        while let slot = departures.popExpired(now: nowTick) { depart(slot) }
        while let slot = expiries.popExpired(now: nowTick) { expire(slot) }
    }

    private func fire(_ slot: UInt32) {
        switch slab[slot].phase {
        case .free: break
        case .securing:
            handle.counters.timeouts.add()
            closeNow(slot)
        case .readingHead, .readingBody: headTimedOut(slot)
        case .awaitingSnapshot where slab[slot].transport == .longPoll: pollTimedOut(slot)
        case .watching where slab[slot].transport == .longPoll: pollTimedOut(slot)
        case .awaitingSnapshot:
            handle.counters.timeouts.add()
            dismiss(
                slot, CloseCode.tryAgainLater, "the auction cannot be read now",
                retryMilliseconds: retryMilliseconds())
        case .watching, .bundling, .echoing:
            if slab[slot].flags.contains(.hasBacklog) { checkProgress(slot) } else { heartbeat(slot) }
        case .closing, .lingering: closeNow(slot)
        }
    }

    private func headTimedOut(_ slot: UInt32) {
        handle.counters.timeouts.add()
        // Between two requests of a kept-alive connection there is nobody to tell.
        guard slab[slot].flags.contains(.hasInput) || slab[slot].phase == .readingBody else {
            return closeNow(slot)
        }
        respond(
            slot, .error(.requestTimeout, "REQUEST_TIMEOUT", "the request did not arrive in time"),
            keepAlive: false)
    }

    private func heartbeat(_ slot: UInt32) {
        if slab[slot].transport == .eventStream {
            scheduleHeartbeat(slot)
            return sendControl(slot, ServerSentEvent.heartbeat)
        }
        if slab[slot].flags.contains(.awaitsPong) {
            handle.counters.timeouts.add()
            return closeNow(slot)
        }
        slab[slot].flags.insert(.awaitsPong)
        scheduleHeartbeat(slot)
        sendControl(slot, WebSocketFrame.encode(.ping, []))
    }

    private func checkProgress(_ slot: UInt32) {
        let ticks = UInt32(Int64(configuration.slowDeadlineSeconds) * 1_000 / Limits.tickMilliseconds)
        let due = slab[slot].lastProgressTick &+ ticks
        if nowTick >= due {
            handle.counters.slowCloses.add()
            dismiss(
                slot, CloseCode.tooSlow, "nothing was taken for \(configuration.slowDeadlineSeconds) s")
        } else {
            timers.schedule(slot, at: due)
        }
    }

    /// When a client that is sent away shall come back: spread over the drain's length.
    func retryMilliseconds() -> Int {
        let spread = max(1, configuration.drainSeconds) * 1_000
        return Int.random(in: 100...max(101, spread), using: &generator)
    }

    // MARK: After an auction's end

    /// Sets the time at which a watcher of an auction that is over is told to go. Polls end by themselves,
    /// and bundles stay for their other auctions.
    func scheduleDeparture(_ slot: UInt32, of channel: Channel) {
        guard channel.topic.kind == .auction, !slab[slot].flags.contains(.isDeparting) else { return }
        switch slab[slot].transport {
        case .webSocket, .eventStream: break
        case .http, .longPoll, .subscription: return
        }
        let spread = Int64(configuration.drainSeconds) * 1_000 / Limits.tickMilliseconds
        let extra = UInt32(Int64.random(in: 0...spread, using: &generator))
        slab[slot].flags.insert(.isDeparting)
        departures.schedule(slot, at: tick(afterSeconds: Limits.secondsAfterEnd) &+ extra)
    }

    private func depart(_ slot: UInt32) {
        // Who has not taken everything yet stays until then, or until it is too slow.
        guard !slab[slot].flags.contains(.hasBacklog) else {
            return departures.schedule(slot, at: tick(afterSeconds: 1))
        }
        slab[slot].flags.remove(.isDeparting)
        dismiss(slot, CloseCode.normal, "the auction is over")
    }

    // MARK: Tokens

    /// Sets the time at which a watcher's token stops being good. A long-poll ends by itself before that
    /// matters.
    func scheduleExpiry(_ slot: UInt32, of access: Access) {
        guard case .bearer(let token) = access else { return }
        let seconds = token.expiresAt + AccessToken.leewaySeconds - Int(Clock.wallMilliseconds() / 1_000)
        slab[slot].flags.insert(.expires)
        expiries.schedule(slot, at: tick(afterSeconds: min(max(0, seconds), Limits.longestExpirySeconds)))
    }

    private func expire(_ slot: UInt32) {
        slab[slot].flags.remove(.expires)
        handle.counters.expiredTokens.add()
        dismiss(slot, CloseCode.policyViolation, "the token has expired")
    }

    // MARK: Drain

    func beginDrain() {
        guard drainStartedAt == nil else { return }
        drainStartedAt = nowMilliseconds
        for case let listener? in [listener, secureListener] {
            poller.remove(listener)
            Sockets.close(listener)
        }
        listener = nil
        secureListener = nil
        for slot in 0..<UInt32(slab.highWater)
        where slab.isConnection(slot) && !slab[slot].flags.contains(.isAdmin) {
            drainQueue.append(token(slot))
        }
        drainQueue.shuffle(using: &generator)
        drainTotal = drainQueue.count
    }

    /// Tells as many to leave as are due by now.
    func continueDrain() {
        guard let drainStartedAt, !drainQueue.isEmpty else { return }
        let length = max(1, Int64(configuration.drainSeconds) * 1_000)
        let elapsed = min(length, nowMilliseconds - drainStartedAt)
        let remaining = drainTotal - Int(Int64(drainTotal) * elapsed / length)
        while drainQueue.count > remaining, let token = drainQueue.popLast() {
            let slot = UInt32(truncatingIfNeeded: token)
            guard slab.isCurrent(slot, generation: UInt32(truncatingIfNeeded: token >> 32)) else { continue }
            switch slab[slot].phase {
            case .securing, .readingHead, .readingBody: closeNow(slot)
            case .awaitingSnapshot, .watching, .bundling, .echoing:
                dismiss(
                    slot, CloseCode.goingAway, "this gateway is leaving",
                    retryMilliseconds: retryMilliseconds())
            case .free, .closing, .lingering: break
            }
        }
    }

    func disconnectWatchers(_ auctionID: String?) {
        for slot in 0..<UInt32(slab.highWater) {
            switch slab[slot].phase {
            case .awaitingSnapshot, .watching:
                let topic = channels[Int(slab[slot].channel)]?.topic
                guard auctionID == nil || topic == auctionID.map(Topic.auction) else { continue }
                dismiss(connection(of: slot), CloseCode.serviceRestart, "reconnect")
            case .bundling where auctionID == nil: dismiss(slot, CloseCode.serviceRestart, "reconnect")
            case .free, .securing, .readingHead, .readingBody, .bundling, .echoing, .closing, .lingering:
                continue
            }
        }
    }
}
