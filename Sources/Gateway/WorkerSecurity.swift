// A worker's connections as bytes: straight to the socket, or through the connection's TLS session. Which of the two
// it is shows nowhere else.

import Fanout
import Reactor
import Telemetry
import TransportSecurity

/// What is accepted where.
enum ListenerKind {
    case plain
    case secure
    case admin
}

/// A loop's public listeners.
struct PublicListeners: Sendable {
    let plain: Int32
    /// For TLS.
    let secure: Int32?
}

extension Worker {
    // MARK: Bytes

    // SAFETY: both use the bytes for the length of the call only.
    /// Sends as much as the connection takes. What would block must be offered again before anything else.
    func transmit(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        guard slab[slot].flags.contains(.isSecure) else {
            return Sockets.send(slab[slot].descriptor, bytes)
        }
        return sessions[slot]?.send(bytes) ?? .closed
    }

    /// Receives into the loop's buffer. A TLS record always fits it, so that nothing received stays in a session where
    /// the poller does not see it.
    func receive(_ slot: UInt32) -> Sockets.Outcome {
        guard slab[slot].flags.contains(.isSecure) else {
            return Sockets.receive(slab[slot].descriptor, into: receiveBuffer)
        }
        return sessions[slot]?.receive(into: receiveBuffer) ?? .closed
    }

    // MARK: Handshakes

    /// Makes an accepted connection one that speaks TLS; closes it and returns false when it cannot.
    func beginSecuring(_ slot: UInt32) -> Bool {
        slab[slot].phase = .securing
        schedule(slot, seconds: configuration.handshakeSeconds)
        guard let context = configuration.tls,
            let session = TLSSession(context, descriptor: slab[slot].descriptor)
        else {
            closeNow(slot)
            return false
        }
        slab[slot].flags.insert(.isSecure)
        sessions[slot] = session
        return true
    }

    /// Goes on with a handshake. When the turn's budget is spent the connection stays readable, and has its step in a
    /// later turn.
    func continueSecuring(_ slot: UInt32) {
        guard handshakeBudget > 0, let session = sessions[slot] else { return }
        handshakeBudget -= 1
        switch session.handshake() {
        case .wantsToRead: poller.modify(slab[slot].descriptor, .readable, token: token(slot))
        case .wantsToWrite:
            poller.modify(slab[slot].descriptor, [.readable, .writable], token: token(slot))
        case .failed:
            handle.counters.handshakesFailed.add()
            closeNow(slot)
        case .complete:
            handle.counters.handshakes.add()
            if session.isResumed { handle.counters.handshakesResumed.add() }
            slab[slot].phase = .readingHead
            schedule(slot, seconds: configuration.headSeconds)
            poller.modify(slab[slot].descriptor, .readable, token: token(slot))
            readConnection(slot)
        }
    }
}
