// Connections that speak TLS: the handshake, a few steps a turn, and receiving through the session.

import Fanout
import Glibc
import Reactor
import Telemetry
import TransportSecurity
import Wire

/// A connection's TLS session, and how its peer uses it.
struct SecureConnection {
    let session: TLSSession
    /// Receives in a row that brought nothing.
    var emptyReceives = 0
}

extension Connections {
    /// Receives into the loop's buffer. A TLS record always fits it, so that nothing received stays in a
    /// session where the poller does not see it.
    // SAFETY: the buffer is used for the length of the call only.
    func receive(_ slot: UInt32) -> Sockets.Outcome {
        guard self[slot].flags.contains(.isSecure) else {
            return Sockets.receive(self[slot].descriptor, into: receiveBuffer)
        }
        guard let secure = sessions[slot] else { return .closed }
        let outcome = secure.session.receive(into: receiveBuffer)
        if outcome == .wouldBlock {
            sessions[slot]?.emptyReceives += 1
            guard secure.emptyReceives < Limits.emptyReceives else {
                context.counters.protocolErrors.add()
                return .failed(EPROTO)
            }
        } else if secure.emptyReceives > 0 {
            sessions[slot]?.emptyReceives = 0
        }
        return outcome
    }

    /// A connection's TLS session; `nil` when it has none.
    func session(of slot: UInt32) -> TLSSession? {
        sessions[slot]?.session
    }

    /// Gives an accepted connection its TLS session; false when it cannot have one.
    func beginSecuring(_ slot: UInt32) -> Bool {
        schedule(slot, seconds: context.configuration.handshakeSeconds)
        guard let tls = context.configuration.tls,
            let session = TLSSession(tls, descriptor: self[slot].descriptor)
        else { return false }
        mark(slot, .isSecure)
        sessions[slot] = SecureConnection(session: session)
        context.counters.sessions.set(sessions.count)
        sessionsPeak = max(sessionsPeak, sessions.count)
        return true
    }

    /// Makes the next step of a handshake. When the turn's budget is spent the connection stays readable, and
    /// has its step in a later turn.
    func continueSecuring(_ slot: UInt32, with handler: any InputHandler) {
        guard handshakeBudget > 0, let session = sessions[slot]?.session else { return }
        handshakeBudget -= 1
        switch session.handshake() {
        case .wantsToRead: poller.modify(self[slot].descriptor, .readable, token: token(slot))
        case .wantsToWrite:
            poller.modify(self[slot].descriptor, [.readable, .writable], token: token(slot))
        case .failed(let reason):
            context.counters.handshakesFailed.add()
            if reason == TLSSession.plainRequest { answerPlainRequest(slot) } else { end(slot, .abrupt) }
        case .complete:
            context.counters.handshakes.add()
            if session.isResumed { context.counters.handshakesResumed.add() }
            transition(slot, to: .readingHead)
            schedule(slot, seconds: context.configuration.headSeconds)
            poller.modify(self[slot].descriptor, .readable, token: token(slot))
            read(slot, with: handler)
        }
    }

    /// Answers a request that came without TLS, so that its sender learns what is wrong. Then waits for the
    /// rest of the request: closing with unread bytes would reset the connection and lose the answer.
    private func answerPlainRequest(_ slot: UInt32) {
        let answer = HTTPResponse.error(.badRequest, "TLS_REQUIRED", "this port speaks TLS: use https or wss")
        _ = answer.encoded(keepAlive: false, date: context.httpDate()).withUnsafeBytes {
            Sockets.send(self[slot].descriptor, $0)
        }
        endSession(slot)
        unmark(slot, .isSecure)
        poller.modify(self[slot].descriptor, .readable, token: token(slot))
        end(slot, .afterFlush)
    }

    /// Tells a TLS peer that nothing more comes.
    func announceEnd(_ slot: UInt32) {
        if self[slot].flags.contains(.isSecure) { sessions[slot]?.session.announceEnd() }
    }

    /// Frees a connection's session. After many sessions have ended, returns their memory to the system,
    /// because the allocator would keep it.
    func endSession(_ slot: UInt32) {
        sessions.removeValue(forKey: slot)?.session.free()
        context.counters.sessions.set(sessions.count)
        guard sessionsPeak >= Limits.sessionsWorthTrimming, sessions.count < sessionsPeak / 4 else { return }
        sessionsPeak = sessions.count
        ProcessMemory.trim()
    }
}
