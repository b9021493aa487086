// What all threads of one gateway may touch: mailboxes, counters and a few atomics.

import Reactor
import Synchronization
import Telemetry

/// An event loop as the other threads see it.
final class LoopHandle: Sendable {
    let index: Int
    let mailbox: Mailbox<LoopMessage>
    let counters = LoopCounters()

    init(index: Int) throws(Errno) {
        self.index = index
        mailbox = try Mailbox(capacity: Limits.mailboxMessages, reserve: Limits.mailboxReserve)
    }
}

/// Written by one event loop, read by scrapes.
final class LoopCounters: Sendable {
    let connections = Counter()
    /// Watching connections by transport, and the auctions watched over connections with many.
    let webSockets = Counter()
    let eventStreams = Counter()
    let longPolls = Counter()
    let subscriptions = Counter()
    let channels = Counter()
    let backlogs = Counter()
    let accepted = Counter()
    /// Connections from an older process, and to a newer one.
    let taken = Counter()
    let given = Counter()
    let upgrades = Counter()
    let requests = Counter()
    let refusedHeads = Counter()
    let protocolErrors = Counter()
    let timeouts = Counter()
    let handshakes = Counter()
    let handshakesResumed = Counter()
    let handshakesFailed = Counter()
    let deliveries = Counter()
    let deliveredBytes = Counter()
    let snapshots = Counter()
    let resumes = Counter()
    let conflated = Counter()
    let slowCloses = Counter()
    let overCapacity = Counter()
    let overAddressLimit = Counter()
    let overMessageRate = Counter()
    let acceptPauses = Counter()
    let refusedTokens = Counter()
    let expiredTokens = Counter()
    let deferredTokens = Counter()
}

/// Written by the feed, read by scrapes.
final class FeedCounters: Sendable {
    let channels = Counter()
    let historyBytes = Counter()
    let events = Counter()
    let rejectedTooLarge = Counter()
    let rejectedNotUTF8 = Counter()
    let rejectedNotJSONObject = Counter()
    let rejectedDuplicateMember = Counter()
    let rejectedOtherAuction = Counter()
    let rejectedNoType = Counter()
    let rejectedBadSequence = Counter()
    let rejectedStates = Counter()
    let duplicates = Counter()
    let gaps = Counter()
    let gapsFilled = Counter()
    let jumps = Counter()
    let stateReads = Counter()
    let refusedReads = Counter()
    let logReads = Counter()
    let linksDelivering = Counter()
    let linkLosses = Counter()
    let refusedTopics = Counter()
    let channelMoves = Counter()
    let mailboxOverflows = Counter()
    let viewersAnnounced = Counter()
}

final class Shared: Sendable {
    let configuration: GatewayConfiguration
    let loops: [LoopHandle]
    let feedMailbox: Mailbox<FeedMessage>
    let feedCounters = FeedCounters()
    let pages: Pages
    /// Open connections over all loops. Each accept and close updates it.
    let connectionCount = Atomic<Int>(0)
    let liveLoops: Atomic<Int>
    let addresses = AddressTable()
    /// True while the process uses more memory than it should. Loop 0 updates it.
    let isOverMemory = Atomic<Bool>(false)
    let isDraining = Atomic<Bool>(false)
    /// True once a newer process has taken the listeners and the connections.
    let hasHandedOver = Atomic<Bool>(false)

    init(configuration: GatewayConfiguration) throws(Errno) {
        self.configuration = configuration
        var handles: [LoopHandle] = []
        for index in 0..<configuration.workers { handles.append(try LoopHandle(index: index)) }
        loops = handles
        liveLoops = Atomic(configuration.workers)
        // Attaches and detaches are bounded by connections, so none is ever refused.
        feedMailbox = try Mailbox(capacity: .max)
        pages = Pages(configuration: configuration)
    }

    /// True while watchers can be served: at least one Redis delivers, and the gateway is not leaving.
    var isReady: Bool {
        feedCounters.linksDelivering.current > 0 && !isDraining.load(ordering: .relaxed)
    }
}
