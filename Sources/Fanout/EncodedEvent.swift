// One event in its wire forms, made once when it enters the gateway and shared by reference between the replay ring,
// every loop's mailbox and every backlog. Immutable, so that it may cross threads.

package final class EncodedEvent: Sendable {
    /// 0 for an event without cursor.
    package let sequence: UInt64
    /// Whether unsent events of this kind merge into the newest (a `BID_UPDATE` with a sequence number).
    package let isConflatable: Bool
    /// Whether it may be left out for a watcher whose socket is full (`VIEWERS`).
    package let isDroppable: Bool
    /// The whole WebSocket frame: header, then the JSON.
    package let frame: [UInt8]
    /// Where in ``frame`` the JSON begins.
    package let jsonStart: Int

    package init(
        sequence: UInt64, isConflatable: Bool, isDroppable: Bool, frame: [UInt8],
        jsonStart: Int
    ) {
        self.sequence = sequence
        self.isConflatable = isConflatable
        self.isDroppable = isDroppable
        self.frame = frame
        self.jsonStart = jsonStart
    }

    /// The event's JSON as published.
    package var json: ArraySlice<UInt8> { frame[jsonStart...] }
}
