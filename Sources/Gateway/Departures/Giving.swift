// Picks the connections that move to the new process, a few each turn, so that the fan-out continues in
// between. A connection can move when its state can be written down. A watcher that still waits for its first
// message is tried again later. A long-poll is answered first. TLS sessions cannot move. Connections that
// have not moved in time stay and are drained. The event loop calls this room once a turn, and when the port
// has news.

import DequeModule
import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Wire

final class Giving {
    private let context: LoopContext
    private let connections: Connections
    private let output: Output
    private let watching: Watching
    private let admission: Admission

    /// Where the connections go; `nil` while none is to move.
    private var port: HandoverPort?
    /// Connections to move, by token.
    private var queue: Deque<UInt64> = []
    /// Connections that could not move when their turn came.
    private var later: [UInt64] = []
    /// Batches that the other process has not confirmed.
    private var outstanding = 0
    /// When the loop gives up on connections that cannot move yet, in monotonic milliseconds; `nil` until
    /// each connection has had a first turn.
    private var endsAt: Int64?
    private var nextTryAt: Int64 = 0

    private enum Fitness {
        case ready
        /// Perhaps in a later turn.
        case notYet
        case never
    }

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

    /// True while a connection may move in the next turn.
    var hasWork: Bool { port != nil && outstanding < Limits.batchesInFlight && !queue.isEmpty }

    // MARK: What the port says

    /// Begins to give everything away. The next process serves the listeners of these kinds from now on.
    func begin(_ port: HandoverPort, _ kinds: Set<ListenerKind>) {
        admission.suspendListening(kinds)
        self.port = port
        outstanding = 0
        queue = Deque(connections.all.map(connections.token))
        later = []
        endsAt = nil
    }

    func batchTaken(_ count: Int) {
        outstanding -= 1
        context.counters.given.add(count)
    }

    /// The other process takes nothing more. What is here stays.
    func keepAll() {
        port = nil
        queue = []
        later = []
        admission.resumeListening()
    }

    // MARK: The turn

    func turn() {
        guard let port, outstanding < Limits.batchesInFlight else { return }
        var batch: [MovedConnection] = []
        var bytes = 0
        var budget = Limits.givesPerTurn
        while budget > 0, batch.count < Limits.batchConnections, bytes < Limits.batchBytes,
            let token = queue.popFirst()
        {
            budget -= 1
            guard let slot = connections.slot(of: token) else { continue }
            switch fitness(of: slot) {
            case .ready:
                let moved = take(slot)
                bytes += moved.weight
                batch.append(moved)
            case .notYet: later.append(token)
            case .never: break
            }
        }
        if !batch.isEmpty { post(batch, to: port) }
        guard queue.isEmpty else { return }
        let end = endsAt ?? context.nowMilliseconds + Limits.givingMilliseconds
        endsAt = end
        guard later.isEmpty || context.nowMilliseconds >= end else { return tryAgain() }
        guard port.post(.finished) else { return }
        self.port = nil
        later = []
    }

    /// Lets the connections that could not move have another turn, at the earliest in the next tick.
    private func tryAgain() {
        guard context.nowMilliseconds >= nextTryAt else { return }
        nextTryAt = context.nowMilliseconds + Limits.givingRetryMilliseconds
        queue = Deque(later)
        later = []
    }

    /// How long the loop may wait until connections have another turn; `nil` when none do.
    func patience(now: Int64) -> Int64? {
        guard port != nil, !later.isEmpty else { return nil }
        return max(1, nextTryAt - now)
    }

    private func post(_ batch: [MovedConnection], to port: HandoverPort) {
        outstanding += 1
        guard !port.post(.batch(batch, loop: context.handle.index)) else { return }
        // The port was closed meanwhile, so they come back in the same way as others.
        _ = context.handle.mailbox.post(.takeBack(batch), .always)
    }

    // MARK: One connection

    private func fitness(of slot: UInt32) -> Fitness {
        let staying: ConnectionFlags = [
            .isAdmin, .isSecure, .isRefused, .isEnding, .isOverAddressLimit, .closesAfterFlush,
            .discardsInput,
        ]
        let flags = connections[slot].flags
        guard flags.isDisjoint(with: staying) else { return .never }
        switch connections[slot].phase {
        case .readingHead: return flags.isDisjoint(with: [.hasBacklog, .isDeferred]) ? .ready : .notYet
        case .watching, .multiplexing:
            guard connections[slot].transport != .longPoll else {
                watching.answerEarly(slot)
                // The client may ask again in the next moment.
                return connections[slot].phase == .readingHead ? fitness(of: slot) : .notYet
            }
            return watching.mayMove(slot) ? .ready : .notYet
        case .opening, .joining: return .notYet
        case .free, .introducing, .securing, .readingBody, .echoing, .closing, .lingering: return .never
        }
    }

    /// Takes a connection out of this process, without closing it.
    private func take(_ slot: UInt32) -> MovedConnection {
        let record = connections[slot]
        let activity: MovedConnection.Activity =
            record.transport == .http
            ? .requests(isIdle: record.flags.contains(.isIdle)) : watching.activity(of: slot)
        // Encoding what waits moves a stream's positions, so this comes after ``activity``.
        let waiting = output.takeWaiting(slot)
        let input = connections.takeInput(slot)
        let expirySeconds = connections.expirySeconds(slot)
        let address = admission.clients.address(of: slot)
        watching.forget(slot)
        output.forget(slot)
        admission.forget(slot)
        return MovedConnection(
            descriptor: connections.release(slot), transport: record.transport, activity: activity,
            deflateBits: record.deflateBits, heartbeatSeconds: record.heartbeatSeconds,
            expirySeconds: expirySeconds, address: address, input: input.bytes,
            message: input.decoder.unfinished, output: waiting)
    }
}
