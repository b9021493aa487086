// The connections of one event loop: their records, the side tables of reading, their timers and their place
// in the poller. All rooms call this one, and it calls none of them. Only this room moves a connection from
// phase to phase. It never decides that a connection ends. It keeps the list of connections that other rooms
// decided to end, and frees a connection when its last words are out.

import Fanout
import Glibc
import Reactor
import Telemetry

final class Connections {
    let context: LoopContext
    let poller: Poller

    private var slab: ConnectionSlab
    private var timers: TimerWheel
    /// When watchers of an auction that is over are told to go.
    private var departures: TimerWheel
    /// When clients' tokens expire.
    private var expiries: TimerWheel

    /// Connections and subscriptions to end after this step, each once.
    private var endings: [(token: UInt64, ending: Ending)] = []
    private var endingPosition = 0

    // Reading
    var inputs: [UInt32: PartialInput] = [:]
    /// Partial PROXY protocol headers. Each connection in the phase `introducing` has an entry.
    var introductions: [UInt32: Introduction] = [:]
    /// Connections with input that could not be interpreted yet, because an answer was awaited or the turn's
    /// budget was spent.
    var keptInput: [UInt64] = []
    /// How many heads, frames and the like may still be interpreted in this turn.
    var stepBudget = Limits.stepsPerTurn
    /// True while the input being read may hold the answer to our ping.
    private(set) var mayBePong = false
    // SAFETY: allocated in init, freed in deinit; lent to the decoder and the parsers on this thread only.
    let receiveBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Limits.receiveBytes, alignment: 16)

    // Transport security
    var sessions: [UInt32: SecureConnection] = [:]
    /// The most sessions since memory was last returned to the system.
    var sessionsPeak = 0
    /// How many handshake steps may still be made in this turn.
    var handshakeBudget = Limits.handshakesPerTurn

    init(context: LoopContext) throws(Errno) {
        self.context = context
        poller = try Poller()
        slab = ConnectionSlab(
            capacity: context.configuration.connectionCeiling + Limits.refusalReserve
                + Limits.adminConnections + Limits.subscriptionsPerLoop)
        timers = TimerWheel(now: context.nowTick)
        departures = TimerWheel(now: context.nowTick)
        expiries = TimerWheel(now: context.nowTick)
    }

    deinit {
        receiveBuffer.deallocate()
    }

    /// Gives every connection its share of a new turn.
    func beginTurn() {
        handshakeBudget = Limits.handshakesPerTurn
        stepBudget = Limits.stepsPerTurn
    }

    // MARK: Records

    /// A connection's record, to read. It is written by the methods of this room only.
    subscript(_ slot: UInt32) -> ConnectionRecord { slab[slot] }

    // SAFETY: valid until the next insert; the delivery loop borrows it for the length of one call.
    var records: UnsafeMutablePointer<ConnectionRecord> { slab.records }

    /// Slot and generation, by which the poller and the queues name a connection.
    func token(_ slot: UInt32) -> UInt64 {
        UInt64(slab[slot].generation) << 32 | UInt64(slot)
    }

    /// The slot that `token` names; `nil` when that connection is gone.
    func slot(of token: UInt64) -> UInt32? {
        let slot = UInt32(truncatingIfNeeded: token)
        return slab.isCurrent(slot, generation: UInt32(truncatingIfNeeded: token >> 32)) ? slot : nil
    }

    /// The connection that a watcher is reached over: its own, or the one that it is a subscription of.
    func connection(of slot: UInt32) -> UInt32 {
        precondition(slab[slot].phase != .free, "slot \(slot) is free")
        return slab[slot].owner == ConnectionSlab.none ? slot : slab[slot].owner
    }

    /// Open connections. Subscriptions have records too, and are not counted.
    var count: Int { slab.count - context.counters.subscriptions.current }

    /// The slots of all open connections.
    var all: [UInt32] { (0..<UInt32(slab.highWater)).filter { slab.isConnection($0) } }

    /// Moves a connection to another phase. Traps on a move that the phases do not allow.
    func transition(_ slot: UInt32, to next: ConnectionPhase) {
        slab.transition(slot, to: next)
    }

    // MARK: Writing records

    func mark(_ slot: UInt32, _ flags: ConnectionFlags) {
        slab[slot].flags.formUnion(flags)
    }

    func unmark(_ slot: UInt32, _ flags: ConnectionFlags) {
        slab[slot].flags.subtract(flags)
    }

    func setTransport(_ slot: UInt32, _ transport: Transport) {
        slab[slot].transport = transport
    }

    /// - Parameter seconds: between heartbeats, as the client asked; 0 when it did not.
    func setHeartbeat(_ slot: UInt32, seconds: UInt8) {
        slab[slot].heartbeatSeconds = seconds
    }

    /// - Parameter bits: the window of compressed messages; 0 for none.
    func setDeflateBits(_ slot: UInt32, _ bits: UInt8) {
        slab[slot].deflateBits = bits
    }

    func setKeepsAlive(_ slot: UInt32, _ keepsAlive: Bool) {
        slab[slot].setKeepsAlive(keepsAlive)
    }

    /// - Parameter channel: the index of the watcher's channel; ``ConnectionSlab/none`` for none.
    func setChannel(_ slot: UInt32, _ channel: UInt32) {
        slab[slot].channel = channel
    }

    func setListPosition(_ slot: UInt32, _ position: UInt32) {
        slab[slot].listPosition = position
    }

    func setCursor(_ slot: UInt32, _ cursor: UInt64) {
        slab[slot].cursor = cursor
    }

    /// The peer has taken bytes from its backlog.
    func noteProgress(_ slot: UInt32) {
        slab[slot].lastProgressTick = context.nowTick
    }

    // MARK: Coming and going

    /// Takes in an accepted connection; `nil` when every slot is in use. In that case the caller still owns
    /// the descriptor.
    /// - Parameter isIntroduced: false when a proxy's header comes before everything else.
    func insert(
        _ descriptor: Int32, isSecure: Bool, isIntroduced: Bool = true
    ) throws(Errno) -> UInt32? {
        let phase: ConnectionPhase = isSecure ? .securing : .readingHead
        guard let slot = slab.insert(descriptor: descriptor, phase: isIntroduced ? phase : .introducing)
        else { return nil }
        do throws(Errno) {
            try poller.add(descriptor, .readable, token: token(slot))
        } catch {
            slab.remove(slot)
            throw error
        }
        if !isIntroduced { introductions[slot] = Introduction(isSecure: isSecure) }
        context.counters.connections.set(count)
        return slot
    }

    /// A record for one of the auctions watched over `connection`; `nil` when every slot is in use.
    func insertSubscription(of connection: UInt32) -> UInt32? {
        slab.insert(subscriptionOf: connection)
    }

    func freeSubscription(_ slot: UInt32) {
        timers.cancel(slot)
        slab.remove(slot)
    }

    /// Closes the descriptor and forgets the connection. The other rooms must have forgotten it already.
    func free(_ slot: UInt32) {
        let mayBeShared = slab[slot].flags.contains(.cameByHandover)
        let descriptor = forget(slot)
        // Closing ends the connection and removes it from the poller, unless another process holds it too.
        if mayBeShared {
            poller.remove(descriptor)
            Sockets.shutDown(descriptor)
        }
        Sockets.close(descriptor)
    }

    /// Forgets the connection and returns its descriptor, which the caller owns. The other rooms must have
    /// forgotten the connection already.
    func release(_ slot: UInt32) -> Int32 {
        let descriptor = forget(slot)
        poller.remove(descriptor)
        return descriptor
    }

    private func forget(_ slot: UInt32) -> Int32 {
        let flags = slab[slot].flags
        timers.cancel(slot)
        if flags.contains(.isDeparting) { departures.cancel(slot) }
        if flags.contains(.expires) { expiries.cancel(slot) }
        if flags.contains(.hasInput) { inputs.removeValue(forKey: slot) }
        if slab[slot].phase == .introducing { introductions.removeValue(forKey: slot) }
        if flags.contains(.isSecure) { endSession(slot) }
        let descriptor = slab[slot].descriptor
        slab.remove(slot)
        context.counters.connections.set(count)
        return descriptor
    }

    // MARK: Endings

    /// Puts a connection or subscription on the list of endings, which is worked off after this step. If it
    /// is on the list already, the first reason stands.
    func end(_ slot: UInt32, _ ending: Ending) {
        guard !slab[slot].flags.contains(.isEnding) else { return }
        slab[slot].flags.insert(.isEnding)
        endings.append((token(slot), ending))
    }

    /// The next connection to end, taken off the list; `nil` when the list is empty. It may be put on the
    /// list again.
    func nextEnding() -> (slot: UInt32, ending: Ending)? {
        guard !endings.isEmpty else { return nil }
        while endingPosition < endings.count {
            let (token, ending) = endings[endingPosition]
            endingPosition += 1
            // A subscription may have gone with its connection.
            guard let slot = slot(of: token) else { continue }
            slab[slot].flags.remove(.isEnding)
            return (slot, ending)
        }
        endings.removeAll(keepingCapacity: endings.count <= Limits.keptCapacity)
        endingPosition = 0
        return nil
    }

    // MARK: Timers

    /// Sets the connection's timer; what it means depends on the phase.
    func schedule(_ slot: UInt32, at tick: UInt32) {
        timers.schedule(slot, at: tick)
    }

    func schedule(_ slot: UInt32, seconds: Int) {
        timers.schedule(slot, at: context.tick(afterSeconds: seconds))
    }

    func cancelTimer(_ slot: UInt32) {
        timers.cancel(slot)
    }

    /// Sets when a watcher of an auction that is over is told to go.
    func scheduleDeparture(_ slot: UInt32, at tick: UInt32) {
        slab[slot].flags.insert(.isDeparting)
        departures.schedule(slot, at: tick)
    }

    /// Sets when the client's token expires.
    func scheduleExpiry(_ slot: UInt32, at tick: UInt32) {
        slab[slot].flags.insert(.expires)
        expiries.schedule(slot, at: tick)
    }

    func cancelExpiry(_ slot: UInt32) {
        guard slab[slot].flags.contains(.expires) else { return }
        slab[slot].flags.remove(.expires)
        expiries.cancel(slot)
    }

    /// In how many seconds the client's token expires; `nil` when it has none.
    func expirySeconds(_ slot: UInt32) -> Int? {
        guard slab[slot].flags.contains(.expires), let deadline = expiries.deadline(of: slot) else {
            return nil
        }
        return max(0, Int((Int64(deadline) - Int64(context.nowTick)) * Limits.tickMilliseconds / 1_000))
    }

    enum Timer {
        /// The connection's own, whose meaning depends on the phase.
        case own
        case departure
        case expiry
    }

    /// The next timer that is due, cleared; `nil` when none is.
    func nextTimer() -> (slot: UInt32, timer: Timer)? {
        let now = context.nowTick
        if let slot = timers.popExpired(now: now) { return (slot, .own) }
        if let slot = departures.popExpired(now: now) {
            slab[slot].flags.remove(.isDeparting)
            return (slot, .departure)
        }
        guard let slot = expiries.popExpired(now: now) else { return nil }
        slab[slot].flags.remove(.expires)
        return (slot, .expiry)
    }

    var hasDueTimers: Bool {
        let now = context.nowTick
        return timers.mayHaveExpired(now: now) || departures.mayHaveExpired(now: now)
            || expiries.mayHaveExpired(now: now)
    }

    // MARK: The poller

    /// Tells the poller what the connection waits for, which follows from its flags.
    func updateInterest(_ slot: UInt32) {
        let flags = slab[slot].flags
        var interest: Poller.Interest = flags.contains(.isPaused) ? [] : .readable
        if flags.contains(.hasBacklog) { interest.insert(.writable) }
        poller.modify(slab[slot].descriptor, interest, token: token(slot))
    }

    /// True while so many answers wait for a client that its further requests must wait too.
    func isCongested(_ slot: UInt32) -> Bool {
        switch slab[slot].phase {
        case .readingHead: slab[slot].flags.contains(.hasBacklog)
        case .multiplexing: slab[slot].flags.contains(.isCongested)
        case .free, .introducing, .securing, .readingBody, .opening, .joining, .watching, .echoing, .closing,
            .lingering:
            false
        }
    }

    /// Resumes reading from a paused connection once it has taken enough of its answers.
    func resumeReading(_ slot: UInt32) {
        guard slab[slot].flags.contains(.isPaused), !isCongested(slot) else { return }
        slab[slot].flags.remove(.isPaused)
        updateInterest(slot)
        keptInput.append(token(slot))
    }

    // MARK: Pongs

    /// Notes that something was received: it may hold the answer to a ping.
    func noteReceived(_ slot: UInt32) {
        mayBePong = slab[slot].flags.contains(.awaitsPong)
        slab[slot].flags.remove(.awaitsPong)
    }

    /// Takes a pong as the answer to our ping; false when we sent none.
    func takePong() -> Bool {
        defer { mayBePong = false }
        return mayBePong
    }
}
