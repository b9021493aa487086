// How a connection ends. A room that finds that a connection must end puts it on the list of `Connections`.
// The loop works the list off after the step, so no connection disappears while a caller holds its slot.

import Wire

/// What a watcher is told when it is sent away.
struct Dismissal {
    /// A WebSocket close code; streams carry it too.
    let code: UInt16
    let message: String
    /// When to come back; `nil` leaves that to the client.
    var retryMilliseconds: Int?

    /// The slow-watcher rule of the contract.
    static func tooSlow(_ message: String = "too slow") -> Dismissal {
        Dismissal(code: CloseCode.tooSlow, message: message)
    }
}

enum Ending {
    /// At once, without a word: the peer is gone, or takes nothing.
    case abrupt
    /// The watcher is told in its transport's own way, and its queue is dropped. A long-poll is answered, and
    /// its connection stays.
    case dismissal(Dismissal)
    /// With a close frame. Further input from the peer is ignored.
    case violation(code: UInt16, reason: String)
    /// The peer sent its close frame, with this code.
    case peerClosed(code: UInt16?)
    /// When everything that waits is written.
    case afterFlush
}
