// What an operator is shown of a loop's watchers.

import Fanout
import LiveProtocol
import Reactor
import Telemetry

extension Watching {
    /// The watchers of an auction. Looks at each of them.
    func view(of topic: Topic) -> LoopView {
        var view = LoopView(loop: context.handle.index)
        guard let channel = channel(of: topic) else { return view }
        view.sequence = channel.last
        view.waiting = channel.waiting.count
        var oldest: Int64?
        for slot in channel.watchers.flatMap(\.slots) where slot != SubscriberList.tombstone {
            switch connections[slot].transport {
            case .webSocket: view.webSockets += 1
            case .eventStream: view.eventStreams += 1
            case .longPoll: view.longPolls += 1
            case .subscription: view.subscriptions += 1
            case .http: break
            }
            let connection = connections.connection(of: slot)
            guard connections[connection].flags.contains(.hasBacklog) else { continue }
            view.backlogs += 1
            oldest = max(oldest ?? 0, silence(of: connection))
        }
        view.oldestBacklogSeconds = oldest.map { Double($0) / 1_000 }
        return view
    }

    /// The full connections that have taken nothing for longest, at most `most`.
    func slowest(_ most: Int) -> [SlowWatcherView] {
        let slowest = output.fullConnections.sorted { silence(of: $0) > silence(of: $1) }.prefix(most)
        return slowest.map { connection in
            let channel = channel(of: connection)
            return SlowWatcherView(
                loop: context.handle.index, transport: ByteCarrier(connections[connection].transport).label,
                auctionID: channel?.topic.id, seconds: Double(silence(of: connection)) / 1_000,
                bytes: output.waitingBytes(of: connection), cursor: connections[connection].cursor,
                newest: channel?.last ?? 0,
                address: Sockets.peer(of: connections[connection].descriptor)?.description ?? "")
        }
    }

    /// For how many milliseconds a connection with a backlog has taken nothing, as far as ticks tell.
    private func silence(of connection: UInt32) -> Int64 {
        Int64(context.nowTick &- connections[connection].lastProgressTick) * Limits.tickMilliseconds
    }
}
