// The watchers of a channel, grouped by how an event reaches them. A walk goes through the groups in this
// order.

package enum DeliveryGroup: Int, CaseIterable, Sendable {
    /// WebSockets: all are sent the same frame.
    case frames
    /// WebSockets that take compressed messages: all are sent the same compressed frame.
    case deflatedFrames
    /// Event streams: all are sent the same server-sent event.
    case streams
    /// Subscriptions and long-polls: each is handled by itself.
    case individuals

    package static let count = 4

    package init(_ record: ConnectionRecord) {
        switch record.transport {
        case .webSocket: self = record.takesSharedDeflate ? .deflatedFrames : .frames
        case .eventStream: self = .streams
        case .http, .longPoll, .subscription: self = .individuals
        }
    }
}

extension ConnectionRecord {
    /// True when this client's window is as large as the one that shared messages are compressed with.
    package var takesSharedDeflate: Bool { Int(deflateBits) >= FanoutLimits.sharedDeflateBits }
}
