// A worker's timers. Each connection has one, whose meaning depends on the connection's phase. Also the paced
// departures after an auction's end.

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

    /// Fires what is due, up to the turn's budget: a crowd's timers may be due together.
    func fireTimers() {
        var budget = Limits.firesPerTurn
        func next(_ wheel: inout TimerWheel) -> UInt32? {
            guard budget > 0, let slot = wheel.popExpired(now: nowTick) else { return nil }
            budget -= 1
            return slot
        }
        while let slot = next(&timers) { fire(slot) }
        while let slot = next(&departures) { depart(slot) }
        while let slot = next(&expiries) { expire(slot) }
    }

    var hasDueTimers: Bool {
        timers.mayHaveExpired(now: nowTick) || departures.mayHaveExpired(now: nowTick)
            || expiries.mayHaveExpired(now: nowTick)
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
}
