// One event loop: a thread, its listener, its connections, its channels. Nothing it owns is touched by
// another thread; others reach it through its mailbox. Loop 0 also carries the hub (the Redis links) and the
// admin listener. The files Worker*.swift hold its parts: connections, requests and what they lead to (live
// addresses, WebSocket, streams, long-poll, bundles), channels, joining, walks, output, timers.

import AuctionEvents
import CLinux
import Compression
import DequeModule
import Fanout
import Glibc
import Logging
import Reactor
import Synchronization
import Telemetry
import TransportSecurity
import Wire

final class Worker {
    /// Tokens of the loop's own descriptors: generation 0, which no connection has, and one of these as slot.
    enum OwnDescriptor {
        static let mailbox: UInt64 = 1
        static let listener: UInt64 = 2
        static let adminListener: UInt64 = 3
        static let hubMailbox: UInt64 = 4
        static let secureListener: UInt64 = 5
        /// Two tokens a Redis link from here on.
        static let firstLink: UInt64 = 16
    }

    /// What is kept of a connection between two receives, when a head, frame or message is incomplete.
    struct Input {
        var bytes: [UInt8] = []
        var decoder = WebSocketDecoder()

        var isEmpty: Bool { bytes.isEmpty && decoder.isBetweenMessages }
    }

    let shared: Shared
    let handle: WorkerHandle
    let logger: Logger
    /// Replaced by a reload.
    var configuration: GatewayConfiguration
    let poller: Poller
    var hub: Hub?

    // Descriptors
    var listener: Int32?
    var secureListener: Int32?
    var adminListener: Int32?
    /// Held open so that a connection can be accepted and closed when descriptors have run out.
    var spareDescriptor: Int32

    // Connections
    var slab: ConnectionSlab
    var inputs: [UInt32: Input] = [:]
    var backlogs: [UInt32: Backlog] = [:]
    /// The TLS sessions of the connections that have one.
    var sessions: [UInt32: SecureConnection] = [:]
    /// The most sessions since memory was given back.
    var sessionsPeak = 0
    /// Steps of handshakes still to be made in this turn.
    var handshakeBudget = Limits.handshakesPerTurn
    /// Live requests whose answer's head is not out.
    var openRequests: [UInt32: OpenRequest] = [:]
    /// The answer to the handshake that is being read, until the first message or the end of the reading.
    var heldHandshake: (slot: UInt32, answer: [UInt8])?
    /// The subscriptions of connections that carry many auctions.
    var bundles: [UInt32: Bundle] = [:]
    /// Connections whose next request came while an earlier one waited for its answer.
    var keptInput: [UInt64] = []
    var timers: TimerWheel
    /// When watchers of an auction that is over are told to go.
    var departures: TimerWheel
    /// When clients' tokens expire.
    var expiries: TimerWheel
    // SAFETY: allocated in init, freed in deinit; lent to the decoder and the parsers on this thread only.
    let receiveBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Limits.receiveBytes, alignment: 16)

    // Limits
    var adminConnections = 0
    /// Whom connections come from, where addresses are limited.
    var clients: [UInt32: Client] = [:]
    /// How much those clients talk that have said something.
    var talkers: [UInt32: RateBucket] = [:]
    /// Whether what is being read may hold the answer to a ping of ours.
    var answersPing = false
    var acceptBucket: RateBucket
    /// When the listeners are looked at again, if they are not now.
    var acceptsPausedUntil: Int64?
    var exhaustionLoggedAt: Int64?
    var nextMemoryCheckAt: Int64 = 0
    /// Heads, frames and the like still to be interpreted in this turn.
    var stepBudget = Limits.stepsPerTurn
    /// Signatures still to be checked in this turn.
    var signatureBudget = Limits.signaturesPerTurn
    /// Request bodies that are being read (on the echo path).
    var bodies: [UInt32: EchoBody] = [:]

    // Compression
    let deflater = MessageDeflater()
    let inflater = MessageInflater()

    // Channels
    var channels: [Channel?] = []
    var freeChannels: [UInt32] = []
    var channelsByTopic: [Topic: Channel] = [:]
    var channelsByNumber: [UInt32: Channel] = [:]
    var walks: Deque<Channel> = []
    /// Channels whose waiting watchers are being given their first messages.
    var greetings: Deque<Channel> = []
    /// Channels whose bids wait for the end of a window, in the order of that time.
    var windows: Deque<(end: Int64, channel: Channel)> = []
    var setbacks: ContiguousArray<Setback> = []

    // Time, read once a turn
    var nowMilliseconds = Clock.monotonicMilliseconds()
    var nowTick: UInt32 { UInt32(truncatingIfNeeded: nowMilliseconds / Limits.tickMilliseconds) }
    /// The present time as HTTP writes it, and the second that it was made for.
    var dateText = ""
    var dateSeconds: Int64 = -1
    var generator = SystemRandomNumberGenerator()
    var nextViewersReportAt: Int64 = 0

    // Leaving
    var drainStartedAt: Int64?
    /// Those who are still to be told to leave: of a drain, of disconnects, of refused topics.
    var exits: [Exit] = []

    private var inbox: [WorkerMail] = []

    init(shared: Shared, handle: WorkerHandle, listeners: PublicListeners, logger: Logger) throws(Errno) {
        self.shared = shared
        self.handle = handle
        listener = listeners.plain
        secureListener = listeners.secure
        self.logger = logger
        configuration = shared.configuration
        poller = try Poller()
        slab = ConnectionSlab(
            capacity: configuration.connectionCeiling + Limits.refusalReserve + Limits.adminConnections
                + Limits.subscriptionsPerLoop)
        timers = TimerWheel(now: UInt32(truncatingIfNeeded: nowMilliseconds / Limits.tickMilliseconds))
        expiries = TimerWheel(now: UInt32(truncatingIfNeeded: nowMilliseconds / Limits.tickMilliseconds))
        acceptBucket = RateBucket(burst: max(1, configuration.acceptsPerSecond / 10), now: nowMilliseconds)
        departures = TimerWheel(now: UInt32(truncatingIfNeeded: nowMilliseconds / Limits.tickMilliseconds))
        setbacks.reserveCapacity(Limits.walkChunk)
        spareDescriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
        try poller.add(listeners.plain, .readable, token: OwnDescriptor.listener)
        if let secure = listeners.secure {
            try poller.add(secure, .readable, token: OwnDescriptor.secureListener)
        }
        try poller.add(handle.mailbox.descriptor, .readable, token: OwnDescriptor.mailbox)
    }

    deinit {
        receiveBuffer.deallocate()
        if spareDescriptor >= 0 { close(spareDescriptor) }
    }

    /// Gives the loop the Redis links and the admin listener.
    func adopt(hub: Hub, adminListener: Int32) throws(Errno) {
        self.hub = hub
        self.adminListener = adminListener
        try poller.add(adminListener, .readable, token: OwnDescriptor.adminListener)
        try poller.add(shared.hubMailbox.descriptor, .readable, token: OwnDescriptor.hubMailbox)
    }

    /// Runs until the drain is over.
    func run() {
        while !isFinished {
            turn()
        }
        shutDown()
    }

    private func turn() {
        poller.wait(milliseconds: patience) { handleEvent($0) }
        nowMilliseconds = Clock.monotonicMilliseconds()
        handshakeBudget = Limits.handshakesPerTurn
        signatureBudget = Limits.signaturesPerTurn
        stepBudget = Limits.stepsPerTurn
        hub?.turn(now: nowMilliseconds, poller: poller)
        readMail()
        closeWindows()
        continueGreetings()
        runWalks()
        fireTimers()
        readKeptInput()
        resumeAccepting()
        checkMemory()
        reportViewers()
        continueExits()
    }

    /// How long the loop may sleep, in milliseconds.
    private var patience: Int32 {
        guard walks.isEmpty, greetings.isEmpty, keptInput.isEmpty, !hasDueTimers, !hasDueExits else {
            return 0
        }
        var wait = hub?.isBusy == true ? Limits.busyWaitMilliseconds : Limits.tickMilliseconds
        if let acceptsPausedUntil {
            wait = min(wait, max(0, acceptsPausedUntil - Clock.monotonicMilliseconds()))
        }
        if let (end, _) = windows.first { wait = min(wait, max(0, end - Clock.monotonicMilliseconds())) }
        return Int32(wait)
    }

    private func handleEvent(_ event: Poller.Event) {
        // The wait may have been long: what is begun here must not count from before it.
        nowMilliseconds = Clock.monotonicMilliseconds()
        let generation = UInt32(truncatingIfNeeded: event.token >> 32)
        let slot = UInt32(truncatingIfNeeded: event.token)
        guard generation == 0 else {
            if slab.isCurrent(slot, generation: generation) { handleConnection(slot, event) }
            return
        }
        switch UInt64(slot) {
        case OwnDescriptor.mailbox: handle.mailbox.acknowledge()
        case OwnDescriptor.hubMailbox: shared.hubMailbox.acknowledge()
        case OwnDescriptor.listener: acceptAll(listener, for: .plain)
        case OwnDescriptor.secureListener: acceptAll(secureListener, for: .secure)
        case OwnDescriptor.adminListener: acceptAll(adminListener, for: .admin)
        default:
            hub?.handle(event, now: nowMilliseconds, buffer: receiveBuffer, poller: poller)
        }
    }

    private func readMail() {
        handle.mailbox.take(into: &inbox)
        for mail in inbox {
            switch mail {
            case .attached(let attachment): attach(attachment)
            case .refused(let topic, let reason): refuse(topic, reason)
            case .event(let number, let event): receive(event, number: number)
            case .jump(let number, let snapshot): jump(number: number, to: snapshot)
            case .reload(let new): configuration = new
            case .drain: beginDrain()
            case .disconnect(let auctionID): disconnectWatchers(auctionID)
            }
        }
        inbox.removeAll(keepingCapacity: inbox.count <= 1_024)
    }

    // MARK: The end

    private var isFinished: Bool {
        guard let drainStartedAt else { return false }
        let isAlone = handle.index != 0 || shared.liveWorkers.load(ordering: .acquiring) == 1
        let deadline = Int64(configuration.drainSeconds + Limits.closeTimeoutSeconds) * 1_000
        guard isAlone else { return false }
        guard nowMilliseconds - drainStartedAt <= deadline else { return true }
        guard publicConnections == 0 else { return false }
        closeListeners()
        return publicConnections == 0
    }

    /// Open connections; subscriptions have records too, but are none.
    var connectionCount: Int { slab.count - handle.counters.subscriptions.current }

    private var publicConnections: Int {
        var count = connectionCount
        guard adminListener != nil, count > 0, count <= 64 else { return count }
        for slot in 0..<UInt32(slab.highWater)
        where slab[slot].phase != .free && slab[slot].flags.contains(.isAdmin) {
            count -= 1
        }
        return count
    }

    private func shutDown() {
        for slot in 0..<UInt32(slab.highWater) where slab.isConnection(slot) { closeNow(slot) }
        for descriptor in [listener, secureListener, adminListener] {
            if let descriptor { Sockets.close(descriptor) }
        }
        // Releasing: what this loop wrote to its counters is seen by whoever sees it gone.
        shared.liveWorkers.subtract(1, ordering: .releasing)
    }
}
