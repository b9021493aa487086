// A worker's timers, one a connection: what it means depends on the connection's phase. And the paced drain.

import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    func schedule(_ slot: UInt32, seconds: Int) {
        timers.schedule(slot, at: nowTick &+ UInt32(Int64(seconds) * 1_000 / Limits.tickMilliseconds))
    }

    /// The first ping comes after a random part of the interval, so that a crowd's pings spread out.
    func scheduleHeartbeat(_ slot: UInt32, isFirst: Bool = false) {
        let ticks = Int64(configuration.heartbeatSeconds) * 1_000 / Limits.tickMilliseconds
        let wait = isFirst ? Int64.random(in: ticks / 2...ticks, using: &generator) : ticks
        timers.schedule(slot, at: nowTick &+ UInt32(max(1, wait)))
    }

    func fireTimers() {
        while let slot = timers.popExpired(now: nowTick) { fire(slot) }
    }

    private func fire(_ slot: UInt32) {
        switch slab[slot].phase {
        case .free: break
        case .readingHead: headTimedOut(slot)
        case .awaitingSnapshot:
            handle.counters.timeouts.add()
            beginClose(slot, CloseCode.tryAgainLater, reason: retryReason())
        case .watching, .echoing:
            if slab[slot].flags.contains(.hasBacklog) { checkProgress(slot) } else { heartbeat(slot) }
        case .closing, .lingering: closeNow(slot)
        }
    }

    private func headTimedOut(_ slot: UInt32) {
        handle.counters.timeouts.add()
        // Between two requests of a kept-alive connection there is nobody to tell.
        guard slab[slot].flags.contains(.hasInput) else { return closeNow(slot) }
        respond(
            slot, .error(.requestTimeout, "REQUEST_TIMEOUT", "the request's head did not arrive in time"),
            keepAlive: false)
    }

    private func heartbeat(_ slot: UInt32) {
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
            beginClose(
                slot, CloseCode.tooSlow,
                reason: "nothing was taken for \(configuration.slowDeadlineSeconds) s")
        } else {
            timers.schedule(slot, at: due)
        }
    }

    /// The reason of 1001 and 1013: when to come back, spread over the drain's length.
    func retryReason() -> String {
        let spread = max(1, configuration.drainSeconds) * 1_000
        return #"{"retry_after_ms":\#(Int.random(in: 100...max(101, spread), using: &generator))}"#
    }

    // MARK: Drain

    func beginDrain() {
        guard drainStartedAt == nil else { return }
        drainStartedAt = nowMilliseconds
        if let listener {
            poller.remove(listener)
            Sockets.close(listener)
            self.listener = nil
        }
        for slot in 0..<UInt32(slab.highWater)
        where slab[slot].phase != .free && !slab[slot].flags.contains(.isAdmin) {
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
            case .readingHead: closeNow(slot)
            case .awaitingSnapshot, .watching, .echoing:
                beginClose(slot, CloseCode.goingAway, reason: retryReason())
            case .free, .closing, .lingering: break
            }
        }
    }

    func disconnectWatchers(_ auctionID: String?) {
        for slot in 0..<UInt32(slab.highWater) {
            switch slab[slot].phase {
            case .awaitingSnapshot, .watching:
                let channel = channels[Int(slab[slot].channel)]
                guard auctionID == nil || channel?.auctionID == auctionID else { continue }
                beginClose(slot, CloseCode.serviceRestart, reason: "reconnect")
            case .free, .readingHead, .echoing, .closing, .lingering: continue
            }
        }
    }
}
