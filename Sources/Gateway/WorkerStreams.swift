// Server-sent events: how a stream is opened and ended.

import Fanout
import Reactor
import Telemetry
import Wire

extension Worker {
    /// Makes a connection an event stream. The response head goes out with the first message, because until
    /// then the answer may become another one: 204 for a client that has seen an auction's end.
    func openStream(_ slot: UInt32, fields: HTTPFields) {
        slab[slot].transport = .eventStream
        // No answer ever comes from the peer; what is sent and never acknowledged tells that it is gone.
        // The time also runs while the peer's window is closed, which is the slow deadline's to judge.
        let seconds = max(2 * configuration.heartbeatSeconds, configuration.slowDeadlineSeconds + 5)
        Sockets.setUserTimeout(slab[slot].descriptor, seconds: seconds)
        openRequests[slot] = OpenRequest(fields: fields)
    }

    /// The response head of a stream, or the handshake's answer of a WebSocket, if it is not out; empty
    /// otherwise.
    func takeHead(_ slot: UInt32) -> [UInt8] {
        if let held = heldHandshake, held.slot == slot {
            heldHandshake = nil
            return held.answer
        }
        guard slab[slot].transport == .eventStream, let request = openRequests.removeValue(forKey: slot)
        else {
            return []
        }
        return ServerSentEvent.head(
            fields: request.fields,
            retryMilliseconds: Int.random(in: Limits.streamRetryMilliseconds, using: &generator),
            date: httpDate())
    }

    /// Sends the response head of a stream that has no first message to go with it yet.
    func openIfStream(_ slot: UInt32) {
        guard slab[slot].transport == .eventStream else { return }
        let head = takeHead(slot)
        if !head.isEmpty { sendBytes(slot, head) }
    }

    /// Answers a stream on which nothing would ever come.
    func answerStreamOver(_ slot: UInt32) {
        answerRequest(slot, HTTPResponse(.noContent))
    }

    /// Ends a stream with a CLOSE event; what is queued is dropped.
    func closeStream(_ slot: UInt32, _ code: UInt16, _ message: String, retryMilliseconds: Int?) {
        let head = takeHead(slot)
        leaveAll(slot)
        slab[slot].phase = .closing
        if slab[slot].flags.contains(.hasBacklog) { backlogs[slot]?.dropQueued() }
        let generation = slab[slot].generation
        sendControl(
            slot,
            head + EventEncoder.close(code: code, message: message, retryMilliseconds: retryMilliseconds))
        if slab.isCurrent(slot, generation: generation) { closeAfterFlush(slot) }
    }
}
