// A worker's output: straight to the socket while it takes everything, through the connection's backlog otherwise.

import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Sends a complete message in order.
    func sendMessage(_ slot: UInt32, _ bytes: [UInt8]) {
        if slab[slot].flags.contains(.hasBacklog) {
            let limit = slab[slot].phase == .echoing ? Limits.echoBacklogBytes : Limits.losslessBacklogBytes
            let fits = backlogs[slot]?.enqueue(message: bytes, losslessLimit: limit) ?? false
            if !fits { closeSlow(slot) }
        } else {
            sendNow(slot, bytes)
        }
    }

    /// Sends a control frame before anything that waits.
    func sendControl(_ slot: UInt32, _ frame: [UInt8]) {
        if slab[slot].flags.contains(.hasBacklog) {
            let fits =
                backlogs[slot]?.enqueue(control: frame, controlLimit: Limits.controlBacklogBytes) ?? false
            // A peer that sends pings and reads nothing gets no further word.
            if !fits { closeNow(slot) }
        } else {
            sendNow(slot, frame)
        }
    }

    /// Queues an event, which stands for those from `first` on, for a watcher whose socket is full.
    func queueEvent(_ slot: UInt32, _ event: EncodedEvent, from first: UInt64) {
        guard let before = backlogs[slot]?.count else { return }
        let fits =
            backlogs[slot]?.enqueue(
                event, from: first, losslessLimit: Limits.losslessBacklogBytes) ?? false
        if event.isConflatable, backlogs[slot]?.count == before { handle.counters.conflated.add() }
        if !fits { closeSlow(slot) }
    }

    /// Keeps the rest of a frame of which the socket took `sent` bytes.
    func beginBacklog(_ slot: UInt32, _ frame: [UInt8], sent: Int) {
        backlogs[slot] = Backlog(frame: frame, sent: sent)
        noteBacklog(slot)
    }

    /// Queues an event of which the socket took nothing, where it may still merge with the next.
    func beginBacklog(_ slot: UInt32, _ event: EncodedEvent, from first: UInt64) {
        var backlog = Backlog()
        _ = backlog.enqueue(event, from: first, losslessLimit: Limits.losslessBacklogBytes)
        guard !backlog.isEmpty else { return }
        backlogs[slot] = backlog
        noteBacklog(slot)
    }

    func flushBacklog(_ slot: UInt32) {
        guard slab[slot].flags.contains(.hasBacklog), var backlog = backlogs.removeValue(forKey: slot) else {
            return
        }
        let descriptor = slab[slot].descriptor
        var isBroken = false
        let written = backlog.flush(encode: EventEncoder.conflated(_:from:)) { bytes in
            switch Sockets.send(descriptor, bytes) {
            case .bytes(let count): return count
            case .wouldBlock: return 0
            case .closed, .failed:
                isBroken = true
                return 0
            }
        }
        if written > 0 { slab[slot].lastProgressTick = nowTick }
        handle.counters.deliveredBytes.add(written)
        guard backlog.isEmpty else {
            backlogs[slot] = backlog
            if isBroken { closeNow(slot) }
            return
        }
        slab[slot].flags.remove(.hasBacklog)
        handle.counters.backlogs.set(backlogs.count)
        poller.modify(descriptor, .readable, token: token(slot))
        if slab[slot].flags.contains(.closesAfterFlush) {
            closeAfterFlush(slot)
        } else if slab[slot].phase == .watching || slab[slot].phase == .echoing {
            scheduleHeartbeat(slot)
        }
    }

    private func sendNow(_ slot: UInt32, _ bytes: [UInt8]) {
        switch bytes.withUnsafeBytes({ Sockets.send(slab[slot].descriptor, $0) }) {
        case .bytes(let count):
            handle.counters.deliveredBytes.add(count)
            if count < bytes.count { beginBacklog(slot, bytes, sent: count) }
        case .wouldBlock: beginBacklog(slot, bytes, sent: 0)
        // The poller reports the broken connection; it is closed there, not in the middle of a caller's work.
        case .closed, .failed: break
        }
    }

    func noteBacklog(_ slot: UInt32) {
        slab[slot].flags.insert(.hasBacklog)
        slab[slot].lastProgressTick = nowTick
        handle.counters.backlogs.set(backlogs.count)
        poller.modify(slab[slot].descriptor, [.readable, .writable], token: token(slot))
        if slab[slot].phase == .watching { schedule(slot, seconds: configuration.slowDeadlineSeconds) }
    }

    private func closeSlow(_ slot: UInt32) {
        handle.counters.slowCloses.add()
        beginClose(slot, CloseCode.tooSlow, reason: "too slow")
    }
}
