// What all threads of one gateway may touch: mailboxes, counters and a few atomics.

import AuctionEvents
import Fanout
import Foundation
import Reactor
import Settings
import Synchronization
import Telemetry

/// An event loop as the other threads see it.
final class LoopHandle: Sendable {
    let index: Int
    let mailbox: Mailbox<LoopMessage>
    let counters = LoopCounters()
    /// When the loop's last turn began, in monotonic milliseconds.
    let lastTurn = Counter()

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
    let deliveredBytes = Tally<ByteCarrier>()
    let snapshots = Counter()
    let resumes = Tally<ResumeSource>()
    let conflated = Tally<MergeCause>()
    let slowCloses = Counter()
    let refusals = Tally<RefusalKind>()
    let closes = Tally<CloseKind>()
    let acceptPauses = Counter()
    let refusedTokens = Counter()
    let expiredTokens = Counter()
    let deferredTokens = Counter()
    /// Watchers without their first message.
    let waiting = Counter()
    /// Bytes in backlogs, without bids that may still merge.
    let backlogBytes = Counter()
    let sessions = Counter()
    /// Time that the loop worked, in microseconds.
    let busyMicroseconds = Counter()
    let turns = LocalHistogram()
    /// From the publication of an event to the end of its walk.
    let eventAges = LocalHistogram()
    /// From the receipt of an event to the beginning and the end of its walk.
    let firstSends = LocalHistogram()
    let lastSends = LocalHistogram()
}

/// Written by the feed, read by scrapes.
final class FeedCounters: Sendable {
    let channels = Counter()
    let historyBytes = Counter()
    let events = Counter()
    let rejected = Tally<EventEnvelope.Rejection>()
    let rejectedStates = Counter()
    let duplicates = Counter()
    let gaps = Tally<RepairCause>()
    let repairs = LocalHistogram()
    /// From the publication of an event to its receipt.
    let receipts = LocalHistogram()
    /// When the server that has been silent for longest last proved that it delivers, in monotonic
    /// milliseconds; 0 while one has not.
    let oldestProof = Counter()
    let gapsFilled = Counter()
    let jumps = Counter()
    let stateReads = Counter()
    let refusedReads = Counter()
    let logReads = Counter()
    let links = Counter()
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
    /// Traced values of the event age.
    let eventAgeExemplars = Exemplars()
    /// `nil` without `trace-file`.
    let spans: SpanFile?
    /// `nil` without systemd.
    let manager = ServiceManager(environment: ProcessInfo.processInfo.environment)
    /// Open connections over all loops. Each accept and close updates it.
    let connectionCount = Atomic<Int>(0)
    let liveLoops: Atomic<Int>
    let addresses = AddressTable()
    /// True while the process uses more memory than it should. Loop 0 updates it.
    let isOverMemory = Atomic<Bool>(false)
    let isDraining = Atomic<Bool>(false)
    /// True while connections are on their way to a newer process. A drain waits for the end of that.
    let isHandingOver = Atomic<Bool>(false)
    /// The kinds of listeners that belong to another process too. That process removes the files of Unix
    /// sockets.
    let foreignListeners = Mutex<Set<ListenerKind>>([])
    /// The socket at which a newer process takes over.
    let takeoverFile = Mutex<SocketFile?>(nil)

    init(configuration: GatewayConfiguration) throws(Errno) {
        self.configuration = configuration
        var handles: [LoopHandle] = []
        for index in 0..<configuration.workers { handles.append(try LoopHandle(index: index)) }
        loops = handles
        liveLoops = Atomic(configuration.workers)
        // Attaches and detaches are bounded by connections, so none is ever refused.
        feedMailbox = try Mailbox(capacity: .max)
        pages = Pages(configuration: configuration)
        spans = configuration.traceFile.map {
            SpanFile(path: $0, service: "gavelcast-gateway", version: ProgramEntry.version)
        }
    }

    /// True while watchers can be served: at least one Redis delivers, and the gateway is not leaving.
    var isReady: Bool {
        feedCounters.linksDelivering.current > 0 && !isDraining.load(ordering: .relaxed)
    }
}
