// Takes in connections from another process, or back from a hand-over that failed.

import Fanout
import LiveProtocol
import Reactor
import Telemetry
import Wire

extension Requests {
    /// Returns the connection's slot; `nil` when there is no room, and the connection is closed.
    func adopt(_ moved: MovedConnection) -> UInt32? {
        guard let slot = admission.adopt(moved.descriptor, address: moved.address) else { return nil }
        connections.setDeflateBits(slot, moved.deflateBits)
        connections.setHeartbeat(slot, seconds: moved.heartbeatSeconds)
        if let seconds = moved.expirySeconds {
            connections.scheduleExpiry(slot, at: context.tick(afterSeconds: seconds))
        }
        if case .requests(let isIdle) = moved.activity {
            if isIdle { connections.mark(slot, .isIdle) }
            let configuration = context.configuration
            connections.schedule(
                slot, seconds: isIdle ? configuration.keepAliveSeconds : configuration.headSeconds)
        } else {
            connections.transition(slot, to: .opening)
            connections.setTransport(slot, moved.transport)
            if moved.transport == .eventStream { watching.limitSilence(of: slot) }
        }
        if case .many(_, let access) = moved.activity { watching.beginMultiplexing(slot, access) }
        // Before anything else is sent.
        if !moved.output.isEmpty { output.keepRest(of: moved.output, sent: 0, for: slot) }
        switch moved.activity {
        case .requests: break
        case .watch(let watch): watching.goOn(slot, watch)
        case .many(let watches, _): watching.goOn(slot, watches)
        }
        let input = PartialInput(bytes: moved.input, decoder: WebSocketDecoder(moved.message))
        if !input.isEmpty { connections.restore(input, of: slot) }
        return slot
    }
}
