import Fanout
import TestSupport
import Testing

/// The pure core put together as a loop does it, driven at random against what is simply true: the list of
/// everything published. Nothing here is timed or does I/O, so a million operations take seconds.
@Suite struct CoreModelTests {
    @Test("a million random operations: each watcher has everything once, in order, or is told of the jump")
    func millionOperations() {
        let simulation = Simulation(generator: .announced("core"))
        for _ in 0..<1_000_000 { simulation.step() }
        simulation.settle()
        #expect(simulation.faults.isEmpty, "\(simulation.faults.prefix(5))")
        // Each way was taken often, or the run proves nothing.
        for (way, count) in simulation.taken { #expect(count > 100, "\(way) was taken \(count) times") }
        #expect(simulation.taken.count == Simulation.Way.allCases.count, "\(simulation.taken)")
    }
}

private final class Simulation {
    enum Way: CaseIterable {
        case resumedFromRing, resumedFromLog, snapshot, incomplete, aheadOfEvents, jump, held, duplicate,
            conflated
        case walkedWhole, backlogged, closedWhileWalking, timerFired, overtaken
    }

    /// A client: what it has applied, and the bytes of a frame it has in part.
    struct Client {
        let generation: UInt32
        var applied: UInt64?
        var received: [UInt8] = []
        /// How many bytes its socket takes now.
        var room = 0
        var backlog: Backlog?
        /// The tick at which it was last heard of.
        var deadline: UInt32 = 0
    }

    static let capacity = 48
    static let logLength: UInt64 = 96
    /// A frame: the first sequence number it stands for (all ones for a snapshot), and its own.
    static let frameBytes = 16
    static let bounds = Backlog.Bounds(lossless: .max, messages: .max, control: .max)

    var generator: SeededGenerator
    var faults: [String] = []
    var taken: [Way: Int] = [:]

    // What is true: event n has the sequence number n, and is lossless where this says so.
    var isLossless: [Bool] = [true]
    var published: UInt64 { UInt64(isLossless.count - 1) }
    /// Messages of pub/sub under way, in an order of their own.
    var inFlight: [UInt64] = []

    // The hub's part.
    var order = SequenceGuard<EncodedEvent>(limit: 64)
    var ring = ReplayRing(capacity: 24)
    var state: UInt64 = 0

    // The loop's part.
    var slab = ConnectionSlab(capacity: Simulation.capacity)
    var list = SubscriberList()
    var wheel = TimerWheel(now: 0)
    var now: UInt32 = 0
    var clients: [UInt32: Client] = [:]
    var pending: [(event: EncodedEvent, first: UInt64)] = []
    var position = 0
    var isWalking = false

    init(generator: SeededGenerator) {
        self.generator = generator
        order.establish(0)
    }

    func chance(_ one: Int) -> Bool { Int.random(in: 0..<one, using: &generator) == 0 }

    func take(_ way: Way) { taken[way, default: 0] += 1 }

    func step() {
        switch Int.random(in: 0..<20, using: &generator) {
        case 0..<3: publish()
        case 3..<7: arrive()
        case 7: if chance(8) { repair() }
        case 8: connect()
        case 9: if chance(3) { disconnect() }
        case 10..<15: walk(Int.random(in: 1...6, using: &generator))
        case 15..<18: readSome()
        case 18: tick()
        default: if !pending.isEmpty, !isWalking, chance(4) { mergePending() }
        }
    }

    // MARK: Publisher and hub

    func publish() {
        isLossless.append(chance(6))
        if chance(4) { state = published }
        // Pub/sub loses some, and repeats some.
        if !chance(60) { inFlight.append(published) }
        if chance(30) { inFlight.append(published) }
    }

    func arrive() {
        guard !inFlight.isEmpty else { return }
        let index = chance(5) ? Int.random(in: 0..<inFlight.count, using: &generator) : 0
        accept(event(inFlight.remove(at: index)))
    }

    func accept(_ event: EncodedEvent) {
        switch order.offer(event, sequence: event.sequence) {
        case .deliver:
            distribute(event)
            deliverHeld()
        case .duplicate: take(.duplicate)
        case .held: take(.held)
        case .overflow: repair()
        }
    }

    func deliverHeld() {
        while let event = order.takeNextHeld() { distribute(event) }
    }

    func distribute(_ event: EncodedEvent) {
        ring.append(event)
        if list.count > 0 { pending.append((event, event.sequence)) }
    }

    /// Fills the hole from the log, or gives it up.
    func repair() {
        guard let last = order.last, order.hasHole, let firstHeld = order.firstHeld else { return }
        if last + Self.logLength > published, !chance(4) {
            for sequence in last + 1..<firstHeld { accept(event(sequence)) }
            return
        }
        take(.jump)
        state = max(state, firstHeld - 1)
        let target = max(firstHeld - 1, min(state, published))
        while !pending.isEmpty { walk(.max) }
        ring.removeAll()
        order.establish(target)
        for slot in list.slots where slab[slot].cursor < target {
            slab[slot].cursor = target
            send(frame(.max, target), to: slot)
        }
        deliverHeld()
    }

    func event(_ sequence: UInt64) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence,
            treatment: isLossless[Int(sequence)] ? .lossless : .conflatable,
            type: "E", frame: frame(sequence, sequence), jsonStart: 0)
    }

    func frame(_ first: UInt64, _ last: UInt64) -> [UInt8] {
        withUnsafeBytes(of: first.bigEndian) { Array($0) } + withUnsafeBytes(of: last.bigEndian) { Array($0) }
    }

    // MARK: Coming and going

    func connect() {
        guard let slot = slab.insert(descriptor: 0) else { return }
        var cursor: UInt64?
        if !chance(3) {
            cursor = published - min(published, UInt64.random(in: 0...130, using: &generator))
            if chance(10) { cursor = published + 5 }
        }
        var isThorough = false
        while true {
            let last = order.last ?? 0
            let footing = Footing(last: last, snapshot: state, firstEvent: ring.first, isThorough: isThorough)
            let decision = Resumption(cursor: cursor, on: footing)
            if case .later(let needsLog) = decision {
                if isThorough {
                    faults.append(
                        "no decision although all was read: \(footing) for \(String(describing: cursor))")
                    return slab.remove(slot)
                }
                state = published
                if needsLog { widen() }
                isThorough = needsLog
                continue
            }
            greet(slot, cursor, decision, isThorough: isThorough)
            return ring.narrow()
        }
    }

    /// Puts what the log still has before the ring.
    func widen() {
        let end = ring.first ?? (order.last ?? 0) + 1
        let start = max(1, published > Self.logLength ? published - Self.logLength + 1 : 1)
        if start < end { ring.widen(with: (start..<end).map(event)) }
    }

    func greet(_ slot: UInt32, _ cursor: UInt64?, _ decision: Resumption, isThorough: Bool) {
        let last = order.last ?? 0
        var client = Client(generation: slab[slot].generation)
        client.room = .max
        var from: UInt64
        switch decision {
        case .resumed:
            from = cursor ?? 0
            client.applied = from
            if from > last {
                take(.aheadOfEvents)
                if from > state { faults.append("resumed at \(from), beyond the state \(state)") }
            } else {
                take(isThorough ? .resumedFromLog : .resumedFromRing)
            }
        case .snapshot(let complete):
            from = state
            client.applied = from
            take(complete ? .snapshot : .incomplete)
            if complete != (cursor == nil) { faults.append("complete is \(complete) for \(cursor as Any)") }
            // Incomplete only where the log truly does not reach back, or the cursor is ahead of everything.
            if let cursor, cursor <= published, cursor + Self.logLength >= published {
                faults.append("gave up on \(cursor) of \(published)")
            }
        case .later: return
        }
        clients[slot] = client
        slab[slot].listPosition = list.append(slot)
        slab[slot].phase = .watching
        slab[slot].cursor = max(last, from)
        if let events = ring.events(after: from) {
            for (event, first) in Replay(events, maximumBytes: .max).entries { send(event, first, to: slot) }
        } else if from < last {
            faults.append("\(from) was promised, but the ring begins at \(ring.first ?? 0)")
        }
        clients[slot]?.room = Int.random(in: 0...400, using: &generator)
        heard(slot)
    }

    func disconnect() {
        guard let slot = list.slots.randomElement(using: &generator), slot != SubscriberList.tombstone else {
            return
        }
        remove(slot)
    }

    func remove(_ slot: UInt32) {
        if isWalking { take(.closedWhileWalking) }
        if let moved = list.remove(at: slab[slot].listPosition) {
            slab[moved].listPosition = slab[slot].listPosition
        }
        let generation = slab[slot].generation
        wheel.cancel(slot)
        slab.remove(slot)
        clients[slot] = nil
        if slab.isCurrent(slot, generation: generation) { faults.append("\(slot) is there after it left") }
    }

    // MARK: Walks and backlogs

    func walk(_ budget: Int) {
        guard let (event, first) = pending.first else { return }
        if !isWalking {
            isWalking = true
            position = 0
            list.beginWalk()
        }
        let end = position + min(budget, list.slots.count - position)
        for slot in Array(list.slots[position..<end]) where slot != SubscriberList.tombstone {
            let cursor = slab[slot].cursor
            guard cursor < event.sequence else { continue }
            if cursor >= first { take(.overtaken) }
            slab[slot].cursor = event.sequence
            send(event, max(first, cursor + 1), to: slot)
        }
        position = end
        guard position >= list.slots.count else { return }
        isWalking = false
        pending.removeFirst()
        var moves: [(UInt32, UInt32)] = []
        list.endWalk { moves.append(($0, $1)) }
        for (slot, position) in moves { slab[slot].listPosition = position }
    }

    /// Bids that wait for their walk merge, as when the loop is behind.
    func mergePending() {
        while pending.count > 1, pending[0].event.isConflatable, pending[1].event.isConflatable {
            pending[1].first = pending[0].first
            pending.removeFirst()
            take(.conflated)
        }
    }

    func send(_ event: EncodedEvent, _ first: UInt64, to slot: UInt32) {
        if clients[slot]?.backlog != nil {
            take(.backlogged)
            _ = clients[slot]?.backlog?.enqueue(event, first: first, bounds: Self.bounds)
        } else {
            send(frame(first, event.sequence), to: slot)
        }
    }

    func send(_ frame: [UInt8], to slot: UInt32) {
        guard var client = clients[slot] else { return }
        if client.backlog != nil {
            _ = client.backlog?.enqueue(bytes: frame, bounds: Self.bounds)
        } else {
            let sent = min(client.room, frame.count)
            if client.room != .max { client.room -= sent }
            if sent < frame.count {
                client.backlog = Backlog(frame: frame, sent: sent)
            } else {
                take(.walkedWhole)
            }
            receive(frame[..<sent], &client)
        }
        clients[slot] = client
    }

    /// A client's socket has room again.
    func readSome() {
        guard let slot = list.slots.randomElement(using: &generator), var client = clients[slot] else {
            return
        }
        client.room = Int.random(in: 0...300, using: &generator)
        flush(&client)
        clients[slot] = client
        heard(slot)
    }

    func flush(_ client: inout Client) {
        guard var backlog = client.backlog else { return }
        var output: [UInt8] = []
        var room = client.room
        _ = backlog.flush(
            encode: { event, first, _ in frame(first, event.sequence) },
            send: { bytes in
                let count = min(room, bytes.count)
                if room != .max { room -= count }
                output += bytes[..<count]
                return count
            })
        client.room = room
        client.backlog = backlog.isEmpty ? nil : backlog
        receive(output[...], &client)
    }

    // MARK: The client

    func receive(_ bytes: ArraySlice<UInt8>, _ client: inout Client) {
        client.received += bytes
        while client.received.count >= Self.frameBytes {
            let numbers = client.received[..<Self.frameBytes].reduce(into: [UInt64](repeating: 0, count: 2)) {
                $0 = [$0[0] << 8 | $0[1] >> 56, $0[1] << 8 | UInt64($1)]
            }
            client.received.removeFirst(Self.frameBytes)
            apply(numbers[0], numbers[1], &client)
        }
    }

    func apply(_ first: UInt64, _ last: UInt64, _ client: inout Client) {
        let applied = client.applied ?? 0
        if first == .max {
            if last < applied { faults.append("a jump back from \(applied) to \(last)") }
        } else {
            if first != applied + 1 { faults.append("\(first)…\(last) after \(applied)") }
            for sequence in first..<max(first, last) where isLossless[Int(sequence)] {
                faults.append("lossless \(sequence) was merged into \(first)…\(last)")
            }
        }
        client.applied = last
    }

    // MARK: Timers

    func heard(_ slot: UInt32) {
        let deadline = now + UInt32.random(in: 1...40, using: &generator)
        wheel.schedule(slot, at: deadline)
        clients[slot]?.deadline = deadline
    }

    func tick() {
        now += UInt32.random(in: 0...3, using: &generator)
        while let slot = wheel.popExpired(now: now) {
            take(.timerFired)
            guard let client = clients[slot], client.deadline <= now else {
                faults.append("a timer fired for \(slot), which had none due")
                continue
            }
            remove(slot)
        }
        if let late = clients.first(where: { $0.value.deadline <= now }) {
            faults.append("the timer of \(late.key) is overdue")
        }
    }

    /// Everything arrives and everybody reads.
    func settle() {
        while !inFlight.isEmpty { arrive() }
        for sequence in (order.last ?? 0) + 1..<published + 1 { accept(event(sequence)) }
        while !pending.isEmpty { walk(.max) }
        for slot in Array(clients.keys) {
            guard var client = clients[slot] else { continue }
            client.room = .max
            flush(&client)
            if client.applied != published {
                faults.append("\(slot) ended at \(client.applied ?? 0) of \(published)")
            }
            clients[slot] = client
        }
        if list.count != clients.count || slab.count != clients.count { faults.append("the counts differ") }
    }
}
