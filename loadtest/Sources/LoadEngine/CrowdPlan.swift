// What a crowd of watchers is to be, and what it tells of itself.

package import Histogram
package import Synchronization
package import TransportSecurity

package enum CrowdTransport: String, CaseIterable, Sendable {
    case webSocket = "websocket"
    case eventStream = "sse"
    case longPoll = "long-poll"
}

package struct CrowdPlan: Sendable {
    /// The server's port on 127.0.0.1.
    package var port: Int
    package var auctions: [String]
    /// Watchers in all; the one with number n watches auction n modulo their count.
    package var watchers: Int
    /// Watcher n uses transport n modulo their count.
    package var transports: [CrowdTransport] = [.webSocket]
    /// Whom to trust, for connections with TLS; `nil` for plain ones.
    package var tls: TLSClientContext?
    /// Whether WebSockets offer permessage-deflate.
    package var deflates = false
    /// Of a thousand watchers, how many read 4 KiB ten times a second, and how many nothing at all.
    package var slowPerMille = 0
    package var stalledPerMille = 0
    /// Connects a second, over all.
    package var connectRate = 5_000
    /// Whether the server is the bare yardstick, which sends events and nothing else.
    package var isBare = false
    /// The processor the threads stay on; `nil` for any.
    package var core: Int?
    /// The least number of threads; more are made where open files do not suffice.
    package var threads = 1
    /// Where in 127.0.0.0/8 the source addresses of this crowd begin; a block is one thread's.
    package var firstSourceBlock = 0

    package init(port: Int, auctions: [String], watchers: Int) {
        self.port = port
        self.auctions = auctions
        self.watchers = watchers
    }
}

/// Numbers that may be read at any time.
package final class CrowdProgress: Sendable {
    /// Watchers that have had their first message and are connected.
    package let connected = Atomic<Int>(0)
    package let deliveries = Atomic<Int>(0)
    package let reconnects = Atomic<Int>(0)
    package let failures = Atomic<Int>(0)
    package let faults = Atomic<Int>(0)
    /// Microseconds between two events of an auction while they are published evenly; 0 when not known.
    package let eventInterval = Atomic<Int>(0)
}

/// What happened between two collections.
package struct CrowdReport: Sendable {
    /// From when an event was due to when a healthy watcher had it, in microseconds.
    package var latency = Histogram<UInt32>(
        highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: .three)
    /// At each delivery: from when the first event was due that the watcher did not have yet, in
    /// microseconds. The oldest its price got before the delivery.
    package var staleness = Histogram<UInt32>(
        highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: .three)
    package var deliveries = 0
    package var merged = 0
    package var receivedBytes = 0
    package var snapshots = 0
    package var resumes = 0
    package var connects = 0
    /// Connections that ended, by close code or HTTP status; 0 for a reset.
    package var endings: [Int: Int] = [:]
    package var cpuNanoseconds: Int64 = 0

    package init() {}

    package mutating func merge(_ other: CrowdReport) {
        latency.add(other.latency)
        staleness.add(other.staleness)
        deliveries += other.deliveries
        merged += other.merged
        receivedBytes += other.receivedBytes
        snapshots += other.snapshots
        resumes += other.resumes
        connects += other.connects
        endings.merge(other.endings, uniquingKeysWith: +)
        cpuNanoseconds += other.cpuNanoseconds
    }
}

/// Healthy watchers that have not reached the last event.
package struct Behind: Sendable {
    package var count = 0
    /// One of them, in words.
    package var example: String?

    package init() {}
}

/// A watcher's wrongdoing, or rather what was done to it.
package struct Finding: Codable, Sendable {
    package let watcher: Int
    package let auction: Int
    package let fault: Fault
    package let sequence: UInt64
}

/// What one shard's watchers applied.
package struct ShardAccounts: Codable, Sendable {
    package struct Watch: Codable, Sendable {
        package let watcher: Int
        package let auction: Int
        package let segment: Segment
        /// Whether it was to be at the end: connected, and not slow on purpose.
        package let mustReachEnd: Bool
    }

    package var watches: [Watch] = []
    /// The first findings as they happened.
    package var findings: [Finding] = []
    package var faults: [Fault: Int] = [:]
    /// Jumps that were declared by a SNAPSHOT.
    package var declaredJumps = 0
    package var ledger: Ledger
}
