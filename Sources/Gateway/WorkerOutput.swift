// A worker's output: straight to the socket while it takes everything, through the connection's backlog
// otherwise. Events are given with the watcher they are for; what goes out goes over the watcher's
// connection, in its wire form.

import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// The connection a watcher is reached over: its own, or the one it is a subscription of.
    func connection(of slot: UInt32) -> UInt32 {
        precondition(slab[slot].phase != .free, "slot \(slot) is nobody's")
        return slab[slot].owner == ConnectionSlab.none ? slot : slab[slot].owner
    }

    /// Whether events may still be sent over a connection: once its end has begun, nothing may follow that.
    private func takesEvents(_ connection: UInt32) -> Bool {
        switch slab[connection].phase {
        case .awaitingSnapshot, .watching, .bundling, .echoing: true
        case .free, .securing, .readingHead, .readingBody, .closing, .lingering: false
        }
    }

    // MARK: Events

    /// Sends an event or message, which stands for the events from `first` on, to a watcher in order.
    func send(_ event: EncodedEvent, from first: UInt64? = nil, to slot: UInt32) {
        let first = first ?? event.sequence
        let connection = connection(of: slot)
        guard takesEvents(connection) else { return }
        if slab[connection].flags.contains(.hasBacklog) {
            queueEvent(slot, event, from: first)
        } else {
            sendNow(connection, encode(event, from: first, watch: slot, over: connection))
        }
    }

    /// An event's wire form on a connection.
    /// - Parameter watch: the connection, or the subscription of it, that the event is for.
    func encode(_ event: EncodedEvent, from first: UInt64, watch: UInt32, over connection: UInt32) -> [UInt8]
    {
        guard slab[connection].transport == .eventStream else {
            // What merged for this watcher alone is not worth compressing for it alone.
            guard slab[connection].takesSharedDeflate, first == event.sequence || !event.isConflatable else {
                return EventEncoder.frame(event, from: first)
            }
            return EventEncoder.deflatedFrame(event, from: first, deflater)
        }
        guard bundles[connection] != nil else { return EventEncoder.stream(event, from: first) }
        let id = bundles[connection]?.id(after: event, for: watch)
        return EventEncoder.stream(event, from: first, id: id)
    }

    /// Queues an event, which stands for those from `first` on, for a watcher whose socket is full.
    func queueEvent(_ slot: UInt32, _ event: EncodedEvent, from first: UInt64) {
        let connection = connection(of: slot)
        guard event.treatment != .droppable, takesEvents(connection) else { return }
        if !slab[connection].flags.contains(.hasBacklog) {
            backlogs[connection] = makeBacklog(connection)
            noteBacklog(connection)
        }
        guard let before = backlogs[connection]?.count else { return }
        let fits =
            backlogs[connection]?.enqueue(
                event, first: first, watch: slot, bounds: bounds(connection)) ?? false
        if event.isConflatable, backlogs[connection]?.count == before { handle.counters.conflated.add() }
        if !fits { dismissSlow(connection) }
    }

    // MARK: Bytes

    /// Sends complete bytes in order.
    func sendBytes(_ slot: UInt32, _ bytes: [UInt8]) {
        if slab[slot].flags.contains(.hasBacklog) {
            let fits = backlogs[slot]?.enqueue(bytes: bytes, bounds: bounds(slot)) ?? false
            if !fits { dismissSlow(slot) }
        } else {
            sendNow(slot, bytes)
        }
    }

    /// Sends a control frame (or a stream's comment) before anything that waits.
    func sendControl(_ slot: UInt32, _ frame: [UInt8]) {
        if slab[slot].flags.contains(.hasBacklog) {
            let fits = backlogs[slot]?.enqueue(control: frame, bounds: bounds(slot)) ?? false
            // A peer that sends pings and reads nothing gets no further word.
            if !fits { closeNow(slot) }
        } else {
            sendNow(slot, frame)
        }
    }

    private func sendNow(_ slot: UInt32, _ bytes: [UInt8]) {
        switch bytes.withUnsafeBytes({ transmit(slot, $0) }) {
        case .bytes(let count):
            handle.counters.deliveredBytes.add(count)
            if count < bytes.count { keepRest(slot, bytes, sent: count) }
        case .wouldBlock: keepRest(slot, bytes, sent: 0)
        // The poller reports the broken connection; it is closed there, not in the middle of a caller's work.
        case .closed, .failed: break
        }
    }

    // MARK: Backlogs

    private func bounds(_ connection: UInt32) -> Backlog.Bounds {
        switch slab[connection].phase {
        case .echoing: Limits.echoBounds
        case .bundling: Limits.bundleBounds
        default: Limits.watcherBounds
        }
    }

    func makeBacklog(_ connection: UInt32, rest: [UInt8] = [], sent: Int = 0) -> Backlog {
        Backlog(frame: rest, sent: sent, hasManyWatches: slab[connection].phase == .bundling)
    }

    /// Keeps the rest of a frame of which the socket took `sent` bytes.
    func keepRest(_ slot: UInt32, _ frame: [UInt8], sent: Int) {
        backlogs[slot] = makeBacklog(slot, rest: frame, sent: sent)
        noteBacklog(slot)
    }

    func noteBacklog(_ slot: UInt32) {
        slab[slot].flags.insert(.hasBacklog)
        slab[slot].lastProgressTick = nowTick
        handle.counters.backlogs.set(backlogs.count)
        poller.modify(slab[slot].descriptor, [.readable, .writable], token: token(slot))
        switch slab[slot].phase {
        case .watching, .bundling: schedule(slot, seconds: configuration.slowDeadlineSeconds)
        case .free, .securing, .readingHead, .readingBody, .awaitingSnapshot, .echoing, .closing, .lingering:
            break
        }
    }

    func flushBacklog(_ slot: UInt32) {
        guard slab[slot].flags.contains(.hasBacklog), var backlog = backlogs.removeValue(forKey: slot) else {
            return
        }
        var isBroken = false
        let written = backlog.flush(
            encode: { event, first, watch in encode(event, from: first, watch: watch, over: slot) },
            send: { bytes in
                switch transmit(slot, bytes) {
                case .bytes(let count): return count
                case .wouldBlock: return 0
                case .closed, .failed:
                    isBroken = true
                    return 0
                }
            })
        if written > 0 { slab[slot].lastProgressTick = nowTick }
        handle.counters.deliveredBytes.add(written)
        guard backlog.isEmpty else {
            backlogs[slot] = backlog
            if isBroken { closeNow(slot) } else { resumeReading(slot) }
            return
        }
        slab[slot].flags.remove(.hasBacklog)
        noteBacklogGone()
        resumeReading(slot)
        poller.modify(slab[slot].descriptor, .readable, token: token(slot))
        if slab[slot].flags.contains(.closesAfterFlush) {
            closeAfterFlush(slot)
        } else {
            switch slab[slot].phase {
            case .watching where slab[slot].transport == .longPoll: break
            case .watching, .bundling: scheduleHeartbeat(slot)
            case .echoing: scheduleEchoHeartbeat(slot)
            case .free, .securing, .readingHead, .readingBody, .awaitingSnapshot, .closing, .lingering: break
            }
        }
    }

    /// Whether so many answers wait for a client that its further requests must wait too.
    func isCongested(_ slot: UInt32) -> Bool {
        guard slab[slot].flags.contains(.hasBacklog) else { return false }
        switch slab[slot].phase {
        case .readingHead: return true
        case .bundling:
            return backlogs[slot].map { $0.messageBytes + $0.losslessBytes } ?? 0 > Limits.bundlePauseBytes
        case .free, .securing, .readingBody, .awaitingSnapshot, .watching, .echoing, .closing, .lingering:
            return false
        }
    }

    /// Goes on reading from a connection that was paused, when enough is out.
    func resumeReading(_ slot: UInt32) {
        guard slab[slot].flags.contains(.isPaused), !isCongested(slot) else { return }
        slab[slot].flags.remove(.isPaused)
        poller.modify(slab[slot].descriptor, [.readable, .writable], token: token(slot))
        keptInput.append(token(slot))
    }

    /// Counts; a table that was large gives its memory back when it is empty.
    func noteBacklogGone() {
        handle.counters.backlogs.set(backlogs.count)
        if backlogs.isEmpty, backlogs.capacity > Limits.keptCapacity { backlogs = [:] }
    }

    private func dismissSlow(_ slot: UInt32) {
        handle.counters.slowCloses.add()
        dismiss(slot, CloseCode.tooSlow, "too slow")
    }
}
