// The wire form of an event on one connection: a frame, a compressed frame, or a server-sent event. The
// encoder owns what this form depends on besides the event: the compressor, and the positions of event
// streams that carry many auctions.

import Compression
import Fanout
import LiveProtocol
import Wire

final class ConnectionEncoder {
    let deflater = MessageDeflater()
    private let connections: Connections
    private var streamPositions: [UInt32: StreamPositions] = [:]

    init(connections: Connections) {
        self.connections = connections
    }

    /// An event's wire form on a connection.
    /// - Parameters:
    ///   - first: the first event that it stands for.
    ///   - watch: the connection, or the subscription of it, that the event is for.
    func encode(_ event: EncodedEvent, from first: UInt64, watch: UInt32, over connection: UInt32) -> [UInt8]
    {
        guard connections[connection].transport == .eventStream else {
            // A bid that merged for this watcher alone is not worth compressing.
            guard connections[connection].takesSharedDeflate, first == event.sequence || !event.isConflatable
            else { return EventEncoder.frame(event, from: first) }
            return EventEncoder.deflatedFrame(event, from: first, compress: deflater.compress)
        }
        guard connections[connection].phase == .multiplexing else {
            return EventEncoder.stream(event, from: first)
        }
        let id = streamPositions[connection]?.id(after: event, for: watch)
        return EventEncoder.stream(event, from: first, id: id)
    }

    /// The form that all watchers of a delivery group get.
    func encode(_ event: EncodedEvent, from first: UInt64, for group: DeliveryGroup) -> [UInt8] {
        switch group {
        case .streams: EventEncoder.stream(event, from: first)
        case .deflatedFrames: EventEncoder.deflatedFrame(event, from: first, compress: deflater.compress)
        case .frames, .individuals: EventEncoder.frame(event, from: first)
        }
    }

    /// Adds one of the auctions of an event stream, in the order of the request.
    /// - Parameter since: the client's cursor in it.
    func addPosition(_ auctionID: String, subscription: UInt32, since: UInt64?, to connection: UInt32) {
        streamPositions[connection, default: StreamPositions()].add(
            auctionID, subscription: subscription, since: since)
    }

    /// The subscriptions of an event stream with many auctions, in the order of the request.
    func positions(of connection: UInt32) -> [UInt32] {
        streamPositions[connection]?.subscriptions ?? []
    }

    func forget(_ connection: UInt32) {
        guard !streamPositions.isEmpty else { return }
        streamPositions.removeValue(forKey: connection)
    }
}

/// Where an event stream that carries many auctions stands in each of them, once its client has read
/// everything that was encoded so far.
private struct StreamPositions {
    private struct Position {
        let auctionID: String
        let subscription: UInt32
        var cursor: UInt64?
    }

    private var positions: [Position] = []

    var subscriptions: [UInt32] { positions.map(\.subscription) }

    mutating func add(_ auctionID: String, subscription: UInt32, since: UInt64?) {
        positions.append(Position(auctionID: auctionID, subscription: subscription, cursor: since))
    }

    /// The stream's id once `event` of `subscription` is applied; `nil` when the event moves no cursor.
    mutating func id(after event: EncodedEvent, for subscription: UInt32) -> String? {
        guard let cursor = event.cursor,
            let index = positions.firstIndex(where: { $0.subscription == subscription })
        else { return nil }
        positions[index].cursor = cursor
        let known = positions.compactMap { position in position.cursor.map { "\(position.auctionID):\($0)" } }
        return known.joined(separator: ",")
    }
}
