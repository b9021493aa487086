// Server-sent events, and the heads of answers that leave together with the first message.

import Fanout
import Reactor
import Telemetry
import Wire

extension Watching {
    /// Makes a connection an event stream. The response head leaves with the first message, because until
    /// then the answer may become another one: 204 for a client that has seen an auction's end.
    func openStream(_ slot: UInt32, fields: HTTPFields) {
        connections.transition(slot, to: .opening)
        connections.setTransport(slot, .eventStream)
        connections.mark(slot, .isAnswerOpen)
        limitSilence(of: slot)
        openRequests[slot] = OpenRequest(fields: fields)
    }

    /// The peer of a stream never answers. Sent bytes that it never acknowledges show that it is gone. The
    /// time also runs while the peer's window is closed, but only the slow deadline may judge that.
    func limitSilence(of slot: UInt32) {
        let configuration = context.configuration
        let heartbeat = max(configuration.heartbeatSeconds, Int(connections[slot].heartbeatSeconds))
        let seconds = max(2 * heartbeat, configuration.slowDeadlineSeconds + 5)
        Sockets.setUserTimeout(connections[slot].descriptor, seconds: seconds)
    }

    /// The response head of a stream, or the handshake's answer of a WebSocket, if it is not out; empty
    /// otherwise.
    func takeHead(_ slot: UInt32) -> [UInt8] {
        if let pending = pendingHandshake, pending.slot == slot {
            pendingHandshake = nil
            return pending.answer
        }
        guard connections[slot].transport == .eventStream,
            let request = openRequests.removeValue(forKey: slot)
        else { return [] }
        connections.unmark(slot, .isAnswerOpen)
        return ServerSentEvent.head(
            fields: request.fields,
            retryMilliseconds: Int.random(in: Limits.streamRetryMilliseconds, using: &context.generator),
            date: context.httpDate())
    }

    /// Sends the response head of a stream that has no first message to go with it yet.
    func openIfStream(_ slot: UInt32) {
        guard connections[slot].transport == .eventStream else { return }
        connections.settle(output.send(takeHead(slot), over: slot), of: slot)
    }

    /// Keeps the answer to a handshake back, to leave with the first message in one send.
    func holdBack(_ answer: [UInt8], for slot: UInt32) {
        pendingHandshake = (slot, answer)
    }

    /// Sends the handshake's answer where no first message was there to go with it.
    func sendPendingHandshake() {
        guard let (slot, answer) = pendingHandshake else { return }
        pendingHandshake = nil
        connections.settle(output.send(answer, over: slot), of: slot)
    }

    /// Answers a request for a stream that would never carry an event.
    func answerStreamOver(_ slot: UInt32) {
        answerRequest(slot, HTTPResponse(.noContent))
    }
}
