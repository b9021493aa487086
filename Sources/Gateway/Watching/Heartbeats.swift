// Liveness: pings and a stream's comments to watchers that take everything, and the slow-watcher deadline of
// those that do not. Also what follows when a backlog is written.

import Fanout
import Reactor
import Telemetry
import Wire

extension Watching {
    /// Sets the next heartbeat. The first one comes after a random part of the interval, so that a crowd's
    /// pings spread out.
    func scheduleHeartbeat(_ slot: UInt32, isFirst: Bool = false) {
        let own = Int64(connections[slot].heartbeatSeconds)
        let seconds = own == 0 ? Int64(context.configuration.heartbeatSeconds) : own
        let ticks = seconds * 1_000 / Limits.tickMilliseconds
        let wait = isFirst ? Int64.random(in: ticks / 2...ticks, using: &context.generator) : ticks
        connections.schedule(slot, at: context.nowTick &+ UInt32(max(1, wait)))
    }

    /// Sets the next heartbeat of an echoing WebSocket. Conformance suites expect none in the first minute.
    func scheduleEchoHeartbeat(_ slot: UInt32) {
        connections.schedule(slot, seconds: max(60, context.configuration.heartbeatSeconds))
    }

    /// The timer of a watcher, or of an echoing WebSocket, is due.
    func heartbeatIsDue(_ slot: UInt32) {
        guard !connections[slot].flags.contains(.hasBacklog) else { return checkProgress(slot) }
        if connections[slot].transport == .eventStream {
            scheduleHeartbeat(slot)
            return sendControl(ServerSentEvent.heartbeat, to: slot)
        }
        if connections[slot].flags.contains(.awaitsPong) {
            context.counters.timeouts.add()
            return connections.end(slot, .abrupt)
        }
        connections.mark(slot, .awaitsPong)
        scheduleHeartbeat(slot)
        sendControl(WebSocketFrame.encode(.ping, []), to: slot)
    }

    /// Closes a watcher that took nothing for `slow-deadline-seconds`.
    private func checkProgress(_ slot: UInt32) {
        let seconds = context.configuration.slowDeadlineSeconds
        let ticks = UInt32(Int64(seconds) * 1_000 / Limits.tickMilliseconds)
        let due = connections[slot].lastProgressTick &+ ticks
        guard context.nowTick >= due else { return connections.schedule(slot, at: due) }
        context.counters.slowCloses.add()
        connections.end(slot, .dismissal(.tooSlow("the client read nothing for \(seconds) s")))
    }

    /// Sends a control frame before anything that waits. A peer that sends pings and reads nothing is cut
    /// off.
    func sendControl(_ frame: [UInt8], to connection: UInt32) {
        guard output.sendControl(frame, over: connection) == .broken else { return }
        connections.end(connection, .abrupt)
    }

    /// Writes what waits for a connection, and does what follows when everything is out.
    func flush(_ connection: UInt32) {
        switch output.flush(connection) {
        case .idle, .waiting: return
        case .broken: return connections.end(connection, .abrupt)
        case .drained: break
        }
        guard !connections[connection].flags.contains(.closesAfterFlush) else {
            return connections.end(connection, .afterFlush)
        }
        switch connections[connection].phase {
        case .watching where connections[connection].transport == .longPoll: break
        case .multiplexing where connections[connection].transport == .longPoll: break
        case .watching, .multiplexing: scheduleHeartbeat(connection)
        case .echoing: scheduleEchoHeartbeat(connection)
        case .free, .introducing, .securing, .readingHead, .readingBody, .opening, .joining, .closing,
            .lingering:
            break
        }
    }
}
