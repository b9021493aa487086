// One simulated watcher: what its thread must remember between two receives.

struct WatcherRecord {
    enum Phase: UInt8 {
        /// Not begun, or over.
        case absent
        case connecting
        /// In the TLS handshake.
        case securing
        case awaitingHead
        case open
        /// Lost; waiting for its time to come back.
        case waiting
    }

    enum Pace: UInt8 {
        case healthy
        /// Reads a little from time to time.
        case slow
        /// Reads nothing after its first message.
        case stalled
    }

    var descriptor: Int32 = -1
    /// Counts connections, so that an event for an earlier one is recognised.
    var epoch: UInt32 = 0
    var phase = Phase.absent
    var transport = CrowdTransport.webSocket
    var pace = Pace.healthy
    /// Bytes of a frame, head or event are kept for when the rest comes.
    var hasPartial = false
    /// Counted among the connected.
    var isCounted = false
    /// The auction is over, or the watch was refused for good.
    var isOver = false
    var auction: UInt32 = 0
    var account = Account()
}
