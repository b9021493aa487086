// Hands a due timer to the room that it concerns. Each connection has one timer, whose meaning follows from
// its phase. Two more timers mark the end of its auction and of its token.

import Fanout
import Telemetry

extension EventLoop {
    /// Fires what is due, up to the turn's budget: a crowd's timers may be due together.
    func fireTimers() {
        for _ in 0..<Limits.firesPerTurn {
            guard let (slot, timer) = connections.nextTimer() else { break }
            guard !connections[slot].flags.contains(.isEnding) else { continue }
            switch timer {
            case .own: fire(slot)
            case .departure: departures.auctionIsOver(slot)
            case .expiry: departures.tokenExpired(slot)
            }
        }
        departures.workOffEndings()
    }

    private func fire(_ slot: UInt32) {
        switch connections[slot].phase {
        case .free, .opening: break
        // The PROXY protocol header is incomplete, so there is no request to answer yet.
        case .introducing: connections.end(slot, .abrupt)
        case .securing: departures.handshakeTimedOut(slot)
        case .readingHead, .readingBody: requests.headTimedOut(slot)
        case .joining, .watching:
            if connections[slot].transport == .longPoll {
                watching.pollTimedOut(slot)
            } else if connections[slot].phase == .joining {
                departures.firstMessageTimedOut(slot)
            } else {
                watching.heartbeatIsDue(slot)
            }
        case .multiplexing where connections[slot].transport == .longPoll: watching.manyPollTimedOut(slot)
        case .multiplexing, .echoing: watching.heartbeatIsDue(slot)
        case .closing, .lingering: connections.end(slot, .abrupt)
        }
    }
}
