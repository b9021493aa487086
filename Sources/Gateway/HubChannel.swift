// One auction as the hub knows it: its subscription, its place in the sequence, its last events, and which
// loops watch.

import Fanout

final class HubChannel {
    enum Phase {
        /// SUBSCRIBE is on its way, or the link is down. Can transition to: reading.
        case subscribing
        /// Subscribed; the state is not read yet (only an auction has one). Can transition to: live,
        /// subscribing.
        case reading
        /// In step with Redis. Can transition to: subscribing.
        case live
    }

    /// A hole that is being repaired.
    struct Repair {
        let deadline: Int64
        var nextReadAt: Int64
        var isReading = false
        /// The state said that events up to here exist.
        let target: UInt64
    }

    let topic: Topic
    let number: UInt32
    let link: Int
    var phase = Phase.subscribing
    var sequence = SequenceGuard<EncodedEvent>(limit: Limits.heldEvents)
    var ring: ReplayRing
    var snapshot: Snapshot?
    var repair: Repair?
    /// The repair's time is over and the state is being read for the jump.
    var isJumping = false
    /// Since when Redis has had no state that the ring leads on from.
    var stateMissingSince: Int64?
    /// A state read is queued or under way.
    var isReadQueued = false

    /// Loops that are sent this channel's events, one bit each.
    var attachedLoops: UInt64 = 0
    /// Loops whose attach is not answered yet, by what they need: only the events, a state, the log.
    var resumingLoops: UInt64 = 0
    var waitingLoops: UInt64 = 0
    var loggingLoops: UInt64 = 0
    var isReadingHistory = false
    /// While the ring also holds what was read from the log for a resume.
    var widenedUntil: Int64?
    /// The first event of the ring when the log was read.
    var widenedFrom: UInt64?
    /// Loops whose mailbox was full; they are sent the ring when it is not.
    var behindLoops: UInt64 = 0
    /// When a channel without watchers is given up.
    var lingersUntil: Int64?

    /// Watchers by loop, as last reported; empty before the first report.
    var viewersByLoop: [Int] = []
    /// True after Redis refused the key in which this auction's viewers are counted.
    var isUncounted = false
    /// The number that Redis was told last.
    var reportedViewers = 0
    /// The number over all gateways that watchers were told last; `nil` before the first.
    var announcedViewers: Int?
    var nextAnnouncementAt: Int64 = 0

    init(topic: Topic, number: UInt32, link: Int, historyEvents: Int) {
        self.topic = topic
        self.number = number
        self.link = link
        ring = ReplayRing(capacity: historyEvents)
    }

    var viewers: Int { viewersByLoop.reduce(0, +) }
    var isWatched: Bool { attachedLoops | resumingLoops | waitingLoops | loggingLoops != 0 }
    /// The sequence number of the last event delivered; 0 before the first.
    var last: UInt64 { sequence.last ?? 0 }

    /// Whether the ring holds all that the log held when it was read a moment ago, and all that followed.
    var hasWholeLog: Bool { widenedUntil != nil && ring.first == widenedFrom }

    /// Whether the snapshot and the ring together lead to ``last`` without a gap.
    var canServe: Bool {
        guard phase == .live || sequence.last != nil, let snapshot else { return false }
        guard snapshot.sequence < last else { return true }
        guard let first = ring.first else { return false }
        return first <= snapshot.sequence + 1
    }
}
