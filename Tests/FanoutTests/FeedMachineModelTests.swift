import Fanout
import LiveProtocol
import TestSupport
import Testing

/// The pure core as the gateway puts it together, driven at random against what is simply true: the list of
/// everything published. The feed's machine, the loops' channels, slabs, timers and backlogs are the real
/// ones; Redis, mailboxes and sockets are simulated. Nothing is timed or does I/O.
@Suite struct FeedMachineModelTests {
    @Test("a million random operations: each watcher has everything once, in order, or is told of the jump")
    func millionOperations() {
        let simulation = Simulation(generator: .announced("core"))
        for _ in 0..<1_000_000 { simulation.step() }
        simulation.settle()
        #expect(simulation.faults.isEmpty, "\(simulation.faults.prefix(5))")
        // Each way was taken often, or the run proves nothing.
        for way in Simulation.Way.allCases {
            let count = simulation.taken[way] ?? 0
            #expect(count > 50, "\(way) was taken \(count) times")
        }
    }
}

/// Redis, the feed and two event loops.
final class Simulation {
    enum Way: CaseIterable {
        case resumedFromRing, resumedFromLog, snapshot, incomplete, aheadOfEvents
        case jump, gap, filled, duplicate, linkLost, mailboxOverflow, caughtUp
        case conflated, walkedWhole, backlogged, closedWhileWalking, timerFired, overtaken
        case saidNotLive, saidLive
    }

    /// A read from Redis that is not answered.
    enum Read {
        case state
        case log(after: UInt64)
        case history
    }

    enum Request {
        case attach(loop: Int, AttachmentNeeds)
        case detach(loop: Int)
    }

    static let logLength: UInt64 = 96
    static let mailboxCapacity = 12

    var generator: SeededGenerator
    var faults: [String] = []
    var taken: [Way: Int] = [:]

    // The truth: event n has the sequence number n, and is lossless where this says so.
    private(set) var isLossless: [Bool] = [true]
    var published: UInt64 { UInt64(isLossless.count - 1) }

    // Redis
    private var isStateLost = false
    /// The last sequence number at which Redis had no state.
    private(set) var stateLostAt: UInt64 = 0
    /// Messages of pub/sub under way, in an order of their own.
    private var inFlight: [UInt64] = []
    private var isSubscribing = true
    private var isDelivering = true
    /// The sequence number that the state had when it was first read after the link came back.
    private var levelAt: UInt64 = 0
    private var reads: [Read] = []

    // The feed
    private var machine = FeedMachine(topic: .auction("a"), number: 0, historyEvents: 24, heldEvents: 64)
    var requests: [Request] = []
    private(set) var now: Int64 = 0
    private var loops: [SimulatedLoop] = []

    init(generator: SeededGenerator) {
        self.generator = generator
        loops = (0..<2).map { SimulatedLoop(index: $0, simulation: self) }
    }

    func chance(_ one: Int) -> Bool { Int.random(in: 0..<one, using: &generator) == 0 }

    func take(_ way: Way) { taken[way, default: 0] += 1 }

    func step() {
        let loop = loops[Int.random(in: 0..<loops.count, using: &generator)]
        switch Int.random(in: 0..<24, using: &generator) {
        case 0..<3: publish()
        case 3..<7: arrive()
        case 7: if chance(2) { tick() }
        case 8: answerRead(mayFail: true)
        case 9: answerRequests()
        case 10: changeLink()
        case 11: loop.connect()
        case 12: if chance(3) { loop.disconnect() }
        case 13..<15: loop.readMailbox(Int.random(in: 1...6, using: &generator))
        case 15: loop.greet(Int.random(in: 1...4, using: &generator))
        case 16..<20: loop.walk(Int.random(in: 1...6, using: &generator), window: chance(4) ? 30 : 0)
        case 20..<23: loop.readSome()
        default: loop.tick()
        }
    }

    // MARK: Redis

    private func publish() {
        isLossless.append(chance(6))
        if chance(400) { isStateLost.toggle() }
        if isStateLost { stateLostAt = published }
        guard !isSubscribing else { return }
        // Pub/sub loses some, and repeats some.
        if !chance(60) { inFlight.append(published) }
        if chance(30) { inFlight.append(published) }
    }

    private func arrive() {
        guard !inFlight.isEmpty else { return }
        let index = chance(5) ? Int.random(in: 0..<inFlight.count, using: &generator) : 0
        let event = event(inFlight.remove(at: index))
        give { $0.received(event, now: now, &$1) }
    }

    private func changeLink() {
        if isSubscribing {
            guard chance(3) else { return }
            isSubscribing = false
            give { $0.subscribed(&$1) }
        } else if !isDelivering {
            changeDelivery(true)
        } else if chance(60) {
            take(.linkLost)
            isSubscribing = true
            inFlight = []
            reads = []
            levelAt = .max
            give { $0.linkLost(&$1) }
            if chance(2) { changeDelivery(false) }
        }
    }

    private func changeDelivery(_ isDelivering: Bool) {
        self.isDelivering = isDelivering
        give { $0.deliveryChanged(isDelivering, &$1) }
    }

    private func answerRead(mayFail: Bool) {
        guard !reads.isEmpty else { return }
        let read = reads.remove(at: Int.random(in: 0..<reads.count, using: &generator))
        let log = max(1, published + 1 - min(published, Self.logLength))..<published + 1
        let fails = mayFail && chance(4)
        switch read {
        case .state where fails, .history where fails: reads.append(read)
        case .state:
            let state = isStateLost ? nil : Snapshot(sequence: published, state: [], isEnded: false)
            if levelAt == .max { levelAt = state?.sequence ?? 0 }
            give { $0.stateRead(state, now: now, &$1) }
        case .log(let after):
            let events = fails ? nil : log.filter { $0 > after }.map(event)
            give { $0.logRead(events, now: now, &$1) }
        case .history: give { $0.historyRead(log.reversed().map(event), now: now, &$1) }
        }
    }

    // MARK: The feed

    private func give(_ event: (inout FeedMachine, inout [FeedMachine.Action]) -> Void) {
        var actions: [FeedMachine.Action] = []
        event(&machine, &actions)
        for action in actions { perform(action) }
    }

    private func perform(_ action: FeedMachine.Action) {
        switch action {
        case .deliver(let event, let targets):
            targets.subtracting(machine.overflowed).forEach { index in
                guard loops[index].mailbox.count >= Self.mailboxCapacity else {
                    return loops[index].mailbox.append(.event(event))
                }
                take(.mailboxOverflow)
                machine.overflow(loop: index)
            }
        case .attach(let attachment, let targets):
            targets.forEach { loops[$0].mailbox.append(.attached(attachment)) }
        case .jump(let snapshot, let targets): targets.forEach { loops[$0].mailbox.append(.jump(snapshot)) }
        case .announce(let isLive, _):
            take(isLive ? .saidLive : .saidNotLive)
            if isLive, !isDelivering || machine.isRepairing || machine.last < levelAt {
                faults.append("said live at \(machine.last), not level with \(levelAt)")
            }
        case .readState: reads.append(.state)
        case .readLog(let sequence): reads.append(.log(after: sequence))
        case .readHistory: reads.append(.history)
        case .count(.duplicate): take(.duplicate)
        case .count(.gapOpened): take(.gap)
        case .count(.gapFilled): take(.filled)
        case .count(.jumped): take(.jump)
        }
    }

    private func tick() {
        now += Int64.random(in: 1...80, using: &generator)
        let mayReadLog = !chance(3)
        if machine.isRepairing { give { $0.tick(now: now, mayReadLog: mayReadLog, &$1) } }
        if let until = machine.widenedUntil, until <= now { machine.narrow() }
        guard !machine.overflowed.isEmpty else { return }
        var ready: LoopSet = []
        for loop in loops where loop.mailbox.count < Self.mailboxCapacity / 2 {
            ready.insert(LoopSet(loop: loop.index))
        }
        if !ready.isDisjoint(with: machine.overflowed) { take(.caughtUp) }
        give { $0.catchUp(ready, &$1) }
    }

    private func answerRequests() {
        let waiting = requests
        requests = []
        for request in waiting {
            switch request {
            case .attach(let loop, let needs): give { $0.attach(loop: loop, needs: needs, &$1) }
            case .detach(let loop): machine.detach(loop: loop)
            }
        }
    }

    func event(_ sequence: UInt64) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence,
            treatment: isLossless[Int(sequence)] ? .lossless : .conflatable,
            type: "E", frame: frame(sequence, sequence), jsonStart: 0)
    }

    /// A frame: the first sequence number it stands for (all ones for a snapshot), and its own.
    func frame(_ first: UInt64, _ last: UInt64) -> [UInt8] {
        withUnsafeBytes(of: first.bigEndian) { Array($0) } + withUnsafeBytes(of: last.bigEndian) { Array($0) }
    }

    // MARK: The end

    /// Everything arrives and everybody reads.
    func settle() {
        isStateLost = false
        for round in 0..<200 {
            if isSubscribing {
                isSubscribing = false
                give { $0.subscribed(&$1) }
            }
            if !isDelivering { changeDelivery(true) }
            // What pub/sub lost last is noticed when something follows.
            if round == 20 {
                isLossless.append(true)
                inFlight.append(published)
            }
            now += 100
            while !inFlight.isEmpty { arrive() }
            answerRequests()
            tick()
            while !reads.isEmpty { answerRead(mayFail: false) }
            for loop in loops { loop.settle() }
        }
        for loop in loops { loop.check() }
        if !machine.isAnnouncedLive { faults.append("not live at the end") }
    }
}
