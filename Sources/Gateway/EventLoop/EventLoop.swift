// One event loop: a thread that gives each room its time. It waits for the poller, hands what is ready to the
// room that it concerns, and lets every room continue its work within a budget. It holds the rooms and
// decides nothing. Other threads reach it through its mailbox only. Loop 0 also carries the feed and the
// admin listener.

import DequeModule
import Fanout
import LiveProtocol
import Logging
import Reactor
import Synchronization
import Telemetry

final class EventLoop {
    let context: LoopContext
    let connections: Connections
    let admission: Admission
    let watching: Watching
    let requests: Requests
    let departures: Departures
    let giving: Giving
    /// On loop 0.
    private var feed: AuctionFeed?
    private var inbox: [LoopMessage] = []

    /// The loop accepts nothing before ``listen(_:admin:)``.
    /// - Parameter clock: monotonic milliseconds.
    init(
        shared: Shared, handle: LoopHandle, logger: Logger,
        clock: @escaping () -> Int64 = Clock.monotonicMilliseconds
    ) throws(Errno) {
        context = LoopContext(shared: shared, handle: handle, logger: logger, clock: clock)
        connections = try Connections(context: context)
        let output = Output(context: context, connections: connections)
        admission = Admission(context: context, connections: connections)
        watching = Watching(context: context, connections: connections, output: output)
        requests = Requests(
            context: context, connections: connections, output: output, watching: watching,
            admission: admission)
        departures = Departures(
            context: context, connections: connections, output: output, watching: watching,
            admission: admission)
        giving = Giving(
            context: context, connections: connections, output: output, watching: watching,
            admission: admission)
        try connections.poller.add(handle.mailbox.descriptor, .readable, token: OwnDescriptor.mailbox)
    }

    /// Gives the loop the feed.
    func adopt(feed: AuctionFeed) throws(Errno) {
        self.feed = feed
        try connections.poller.add(
            context.shared.feedMailbox.descriptor, .readable, token: OwnDescriptor.feedMailbox)
    }

    /// Accepts connections from now on.
    func listen(_ listeners: PublicListeners, admin: Int32?) {
        admission.listen(listeners.plain, as: .plain)
        admission.listen(listeners.secure, as: .secure)
        if let admin { admission.listen([admin], as: .admin) }
    }

    /// Runs until the drain is over.
    func run() {
        while !isFinished { turn() }
        shutDown()
    }

    // MARK: The turn

    private func turn() {
        var began: Int64?
        connections.poller.wait(milliseconds: patience) { event in
            if began == nil { began = Clock.monotonicMicroseconds() }
            // The wait may have been long. Deadlines set here must not count from before it.
            context.readClock()
            handle(event)
            departures.workOffEndings()
        }
        let start = began ?? Clock.monotonicMicroseconds()
        context.readClock()
        context.handle.lastTurn.set(Int(context.nowMilliseconds))
        connections.beginTurn()
        requests.beginTurn()
        feed?.turn(now: context.nowMilliseconds, poller: connections.poller)
        readMessages()
        requests.answerInspections()
        watching.turn()
        departures.workOffEndings()
        fireTimers()
        connections.readKeptInput(with: requests)
        departures.workOffEndings()
        admission.turn()
        watching.reportViewers()
        departures.turn(with: requests)
        giving.turn()
        departures.workOffEndings()
        noteTurn(since: start)
    }

    /// Measures a turn, from the end of its wait.
    private func noteTurn(since began: Int64) {
        let duration = Clock.monotonicMicroseconds() - began
        context.counters.turns.add(microseconds: duration)
        context.counters.busyMicroseconds.add(Int(duration))
    }

    /// How long the loop may sleep, in milliseconds.
    private var patience: Int32 {
        let hasWork =
            watching.hasWork || departures.hasWork || giving.hasWork || connections.hasDueTimers
            || connections.hasKeptInput
        guard !hasWork else { return 0 }
        var wait = feed?.isBusy == true ? Limits.busyWaitMilliseconds : Limits.tickMilliseconds
        let now = Clock.monotonicMilliseconds()
        if let until = admission.acceptsPausedUntil { wait = min(wait, max(0, until - now)) }
        if let end = watching.nextWindowEnd { wait = min(wait, max(0, end - now)) }
        if let next = giving.patience(now: now) { wait = min(wait, next) }
        return Int32(wait)
    }

    private func handle(_ event: Poller.Event) {
        guard event.token >> 32 == 0 else {
            if let slot = connections.slot(of: event.token) { handle(event, of: slot) }
            return
        }
        switch event.token {
        case OwnDescriptor.mailbox: context.handle.mailbox.acknowledge()
        case OwnDescriptor.feedMailbox: context.shared.feedMailbox.acknowledge()
        case OwnDescriptor.listener: accept(.plain)
        case OwnDescriptor.secureListener: accept(.secure)
        case OwnDescriptor.adminListener: accept(.admin)
        default:
            feed?.handle(
                event, now: context.nowMilliseconds, buffer: connections.receiveBuffer,
                poller: connections.poller)
        }
    }

    private func accept(_ kind: ListenerKind) {
        // A connection that is over a limit gives its descriptor back before the next one is accepted.
        admission.accept(kind, with: requests, afterEach: departures.workOffEndings)
    }

    private func handle(_ event: Poller.Event, of slot: UInt32) {
        let isSecuring = connections[slot].phase == .securing
        if event.isWritable, !isSecuring { watching.flush(slot) }
        if event.isReadable || event.isBroken || isSecuring { connections.read(slot, with: requests) }
    }

    private func readMessages() {
        context.handle.mailbox.take(into: &inbox)
        for message in inbox {
            switch message {
            case .attached(let attachment): watching.take(attachment)
            case .refused(let topic, let reason): departures.refuse(topic, reason)
            case .event(let number, let event): watching.take(event, number: number)
            case .jump(let number, let snapshot): watching.jump(number: number, to: snapshot)
            case .feed(let number, let isLive): watching.takeFeed(number: number, isLive: isLive)
            case .reload(let new): context.reload(new)
            case .drain: departures.beginDrain(with: requests)
            case .disconnect(let auctionID): departures.disconnectWatchers(auctionID)
            case .giveAway(let port, let kinds): giving.begin(port, kinds)
            case .batchTaken(let count): giving.batchTaken(count)
            case .keepAll: giving.keepAll()
            case .adopt(let moved):
                context.counters.taken.add(moved.count)
                adopt(moved)
            case .takeBack(let moved): adopt(moved)
            case .listen(let listeners, let admin): listen(listeners, admin: admin)
            case .inspect(let id, let question): inspect(id, question)
            case .inspected(let id, let part): requests.inspections.take(part, of: id)
            }
        }
        inbox.removeAll(keepingCapacity: inbox.count <= 1_024)
    }

    private func inspect(_ id: Int, _ question: InspectionQuestion) {
        let part: InspectionPart
        switch question {
        case .auction(let auctionID): part = .loop(watching.view(of: .auction(auctionID)))
        case .slowestWatchers(let most): part = .watchers(watching.slowest(most))
        case .redis: return
        }
        _ = context.shared.loops[0].mailbox.post(
            .inspected(id, part), .always, wakes: context.handle.index != 0)
    }

    private func adopt(_ moved: [MovedConnection]) {
        let slots = moved.compactMap(requests.adopt)
        if context.isDraining { departures.drain(slots) }
    }

    // MARK: The end

    private var isFinished: Bool {
        guard let drainStartedAt = context.drainStartedAt else { return false }
        let isAlone =
            context.handle.index != 0 || context.shared.liveLoops.load(ordering: .acquiring) == 1
        guard isAlone else { return false }
        let seconds = context.configuration.drainSeconds + Limits.closeTimeoutSeconds
        guard context.nowMilliseconds - drainStartedAt <= Int64(seconds) * 1_000 else { return true }
        guard admission.publicConnections == 0 else { return false }
        admission.closeListeners(with: requests, afterEach: departures.workOffEndings)
        return admission.publicConnections == 0
    }

    private func shutDown() {
        for slot in connections.all { departures.close(slot) }
        admission.shutDown()
        // Releasing: a thread that sees this loop gone also sees what the loop wrote to its counters.
        context.shared.liveLoops.subtract(1, ordering: .releasing)
    }
}
