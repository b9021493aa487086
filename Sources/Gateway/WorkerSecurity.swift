// A worker's connections as bytes: straight to the socket, or through the connection's TLS session. Which of
// the two it is shows nowhere else.

import Fanout
import Glibc
import Reactor
import Telemetry
import TransportSecurity
import Wire

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

/// A connection's TLS session, and how its peer uses it.
struct SecureConnection {
    let session: TLSSession
    /// Receives in a row that brought nothing.
    var emptyReceives = 0
}

extension Worker {
    // MARK: Bytes

    // SAFETY: both use the bytes for the length of the call only.
    /// Sends as much as the connection takes. What would block must be offered again before anything else.
    func transmit(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        guard slab[slot].flags.contains(.isSecure) else {
            return Sockets.send(slab[slot].descriptor, bytes)
        }
        return sessions[slot]?.session.send(bytes) ?? .closed
    }

    /// Receives into the loop's buffer. A TLS record always fits it, so that nothing received stays in a
    /// session where the poller does not see it.
    func receive(_ slot: UInt32) -> Sockets.Outcome {
        guard slab[slot].flags.contains(.isSecure) else {
            return Sockets.receive(slab[slot].descriptor, into: receiveBuffer)
        }
        guard let secure = sessions[slot] else { return .closed }
        let outcome = secure.session.receive(into: receiveBuffer)
        if outcome == .wouldBlock {
            sessions[slot]?.emptyReceives += 1
            guard secure.emptyReceives < Limits.emptyReceives else {
                handle.counters.protocolErrors.add()
                return .failed(EPROTO)
            }
        } else if secure.emptyReceives > 0 {
            sessions[slot]?.emptyReceives = 0
        }
        return outcome
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
        sessions[slot] = SecureConnection(session: session)
        sessionsPeak = max(sessionsPeak, sessions.count)
        return true
    }

    /// Frees a connection's session. After a storm the memory of many goes back to the system, which the
    /// allocator would keep.
    func endSession(_ slot: UInt32) {
        sessions.removeValue(forKey: slot)?.session.free()
        guard sessionsPeak >= Limits.sessionsWorthTrimming, sessions.count < sessionsPeak / 4 else { return }
        sessionsPeak = sessions.count
        ProcessMemory.trim()
    }

    /// Answers a request that came without TLS, so that its sender learns what is wrong, and waits for the
    /// rest of it: closed with bytes unread, the connection would be reset, and the answer with it.
    private func sayThatThisIsTLS(_ slot: UInt32) {
        let answer = HTTPResponse.error(.badRequest, "TLS_REQUIRED", "this port speaks TLS: use https or wss")
        _ = answer.encoded(keepAlive: false, date: httpDate()).withUnsafeBytes {
            Sockets.send(slab[slot].descriptor, $0)
        }
        endSession(slot)
        slab[slot].flags.remove(.isSecure)
        poller.modify(slab[slot].descriptor, .readable, token: token(slot))
        closeAfterFlush(slot)
    }

    /// Goes on with a handshake. When the turn's budget is spent the connection stays readable, and has its
    /// step in a later turn.
    func continueSecuring(_ slot: UInt32) {
        guard handshakeBudget > 0, let session = sessions[slot]?.session else { return }
        handshakeBudget -= 1
        switch session.handshake() {
        case .wantsToRead: poller.modify(slab[slot].descriptor, .readable, token: token(slot))
        case .wantsToWrite:
            poller.modify(slab[slot].descriptor, [.readable, .writable], token: token(slot))
        case .failed(let reason):
            handle.counters.handshakesFailed.add()
            if reason == TLSSession.plainRequest { sayThatThisIsTLS(slot) } else { closeNow(slot) }
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
