// The watchers that the delivery loop could not serve in the plain way, handled one by one after a stretch.

import Fanout
import LiveProtocol
import Telemetry

extension Watching {
    /// Handles the list of the delivery loop. The walk still counts as under way, so places do not move.
    func completeSends(on channel: Channel, _ group: DeliveryGroup) {
        guard !incompleteSends.isEmpty else { return }
        let walked = Array(channel.walked)
        for incomplete in incompleteSends where !connections[incomplete.slot].flags.contains(.isEnding) {
            let slot = incomplete.slot
            switch incomplete.reason {
            case .failed: connections.end(slot, .abrupt)
            case .needsCare where !connections[slot].flags.contains(.hasBacklog):
                context.counters.deliveries.add(walked.count)
                connections.settle(output.send(channel.walkBytes, over: slot), of: slot)
            case .needsCare, .hasSeenPart: send(walked, after: incomplete.cursor, to: slot)
            case .took(let sent):
                context.counters.deliveredBytes.add(ByteCarrier(group), sent)
                keepRest(of: walked, sent: sent, on: channel, group, after: incomplete.cursor, for: slot)
            }
        }
        incompleteSends.removeAll(keepingCapacity: true)
    }

    /// Handles a socket that took `sent` bytes of the walk. Keeps the rest of the event that is partly out,
    /// and queues the events behind it.
    private func keepRest(
        of walked: [Channel.Pending], sent: Int, on channel: Channel, _ group: DeliveryGroup,
        after cursor: UInt64, for slot: UInt32
    ) {
        // The event that is partly out, or else the first event that is not out at all.
        let index = channel.walkEnds.firstIndex { $0 > sent } ?? channel.walkEnds.count
        let start = index > 0 ? channel.walkEnds[index - 1] : 0
        context.counters.deliveries.add(index)
        guard start < sent else { return queue(walked[index...], after: cursor, to: slot) }
        context.counters.deliveries.add()
        let frame = output.encode(walked[index].event, from: walked[index].first, for: group)
        output.keepRest(of: frame, sent: sent - start, for: slot)
        queue(walked[(index + 1)...], after: cursor, to: slot)
    }

    /// Sends one by one the events that a watcher whose cursor was `cursor` has not seen.
    func send(_ walked: [Channel.Pending], after cursor: UInt64, to slot: UInt32) {
        for pending in walked where pending.event.sequence == 0 || pending.event.sequence > cursor {
            let first = pending.event.sequence == 0 ? 0 : max(pending.first, cursor + 1)
            let outcome = output.send(pending.event, from: first, to: slot)
            guard outcome != .broken else { return }
            context.counters.deliveries.add()
            connections.settle(outcome, of: slot)
        }
    }

    private func queue(_ rest: ArraySlice<Channel.Pending>, after cursor: UInt64, to slot: UInt32) {
        for pending in rest {
            let first = pending.event.sequence == 0 ? 0 : max(pending.first, cursor + 1)
            let outcome = output.queue(pending.event, from: first, to: slot)
            guard outcome != .broken else { return }
            context.counters.deliveries.add()
            connections.settle(outcome, of: slot)
        }
    }
}
