import Fanout
import LiveProtocol
import Testing

/// One auction's machine, told by hand what Redis and the loops say.
@Suite struct FeedMachineTests {
    private static func event(_ sequence: UInt64) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence, treatment: .conflatable, type: "E", frame: [1, 2, 3],
            jsonStart: 0)
    }

    private static func state(_ sequence: UInt64) -> Snapshot {
        Snapshot(sequence: sequence, state: [123, 125], isEnded: false)
    }

    /// A machine with its log of actions, in short words.
    private struct Driver: ~Copyable {
        var machine: FeedMachine
        var now: Int64 = 0
        var actions: [FeedMachine.Action] = []

        init(_ topic: Topic = .auction("a"), historyEvents: Int = 8, heldEvents: Int = 8) {
            machine = FeedMachine(
                topic: topic, number: 7, historyEvents: historyEvents, heldEvents: heldEvents)
        }

        /// A machine in step at `sequence`, with one loop attached.
        static func live(at sequence: UInt64, historyEvents: Int = 8, heldEvents: Int = 8) -> Driver {
            var driver = Driver(historyEvents: historyEvents, heldEvents: heldEvents)
            driver.attach(0, .state)
            driver.subscribed()
            driver.stateRead(state(sequence))
            _ = driver.taken()
            return driver
        }

        mutating func attach(_ loop: Int, _ needs: AttachmentNeeds) {
            machine.attach(loop: loop, needs: needs, &actions)
        }
        mutating func subscribed() { machine.subscribed(&actions) }
        mutating func delivers(_ isDelivering: Bool) { machine.deliveryChanged(isDelivering, &actions) }
        mutating func linkLost() { machine.linkLost(&actions) }
        mutating func received(_ sequences: UInt64...) {
            for sequence in sequences { machine.received(event(sequence), now: now, &actions) }
        }
        mutating func stateRead(_ state: Snapshot?) { machine.stateRead(state, now: now, &actions) }
        mutating func logRead(_ sequences: ClosedRange<UInt64>?) {
            machine.logRead(sequences?.map(FeedMachineTests.event), now: now, &actions)
        }
        mutating func historyRead(_ sequences: ClosedRange<UInt64>) {
            machine.historyRead(sequences.reversed().map(FeedMachineTests.event), now: now, &actions)
        }
        mutating func tick(after milliseconds: Int64 = 0, mayReadLog: Bool = true) {
            now += milliseconds
            machine.tick(now: now, mayReadLog: mayReadLog, &actions)
        }
        mutating func catchUp(_ loops: LoopSet) { machine.catchUp(loops, &actions) }

        /// The actions since the last call.
        mutating func taken() -> [String] {
            defer { actions = [] }
            return actions.map { action in
                switch action {
                case .deliver(let event, let loops): "deliver \(event.sequence) to \(loops.rawValue)"
                case .attach(let attachment, let loops):
                    "attach \(loops.rawValue) at \(attachment.snapshot.sequence)+"
                        + "\(attachment.events.map { String($0.sequence) }.joined(separator: ","))"
                        + (attachment.isThorough ? " thorough" : "")
                        + (attachment.isLive ? "" : " not live")
                case .jump(let snapshot, let loops): "jump to \(snapshot.sequence) for \(loops.rawValue)"
                case .announce(let isLive, let loops): "\(isLive ? "live" : "not live") for \(loops.rawValue)"
                case .readState(let isRetry): isRetry ? "read state again" : "read state"
                case .readLog(let sequence): "read log after \(sequence)"
                case .readHistory: "read history"
                case .count(.gapOpened(let cause)):
                    cause == .hole ? "gapOpened(hole)" : "gapOpened(reconnect)"
                case .count(.gapFilled): "gapFilled"
                case .count(.jumped): "jumped"
                case .count(.duplicate): "duplicate"
                }
            }
        }
    }

    @Test("the state is read only after the subscription is confirmed, and joiners share the read")
    func joining() {
        var feed = Driver()
        feed.attach(0, .state)
        feed.attach(1, .state)
        #expect(feed.taken() == [])
        feed.subscribed()
        #expect(feed.taken() == ["read state"])
        feed.received(6)
        #expect(feed.taken() == [])
        feed.stateRead(Self.state(5))
        #expect(feed.taken() == ["deliver 6 to 0", "attach 3 at 5+6"])
        feed.received(7)
        #expect(feed.taken() == ["deliver 7 to 3"])
    }

    @Test(
        "watchers are told that Redis does not deliver, and that it does only when they have what they missed"
    )
    func announcements() {
        var feed = Driver.live(at: 5)
        feed.linkLost()
        #expect(feed.taken() == [], "a short interruption is not worth a word")
        feed.delivers(false)
        feed.delivers(false)
        #expect(feed.taken() == ["not live for 1"])
        feed.attach(1, .state)
        #expect(feed.taken() == ["attach 2 at 5+ not live"], "a joiner learns it with its attachment")
        feed.subscribed()
        feed.delivers(true)
        feed.stateRead(Self.state(7))
        #expect(feed.taken() == ["read state", "gapOpened(reconnect)"])
        feed.tick()
        feed.logRead(6...7)
        #expect(
            feed.taken() == [
                "read log after 5", "deliver 6 to 3", "deliver 7 to 3", "gapFilled", "live for 3",
            ])
    }

    @Test("a link that is back without the bid API's heartbeat leaves its auctions not live")
    func relayMissing() {
        var feed = Driver.live(at: 5)
        feed.delivers(false)
        feed.linkLost()
        feed.subscribed()
        feed.stateRead(Self.state(5))
        #expect(feed.taken() == ["not live for 1", "read state"])
        feed.delivers(true)
        #expect(feed.taken() == ["live for 1"])
    }

    @Test("after a gap that is given up, the jump comes before the word that the auction is live")
    func announcementBehindJump() {
        var feed = Driver.live(at: 5)
        feed.received(8)
        feed.delivers(false)
        feed.delivers(true)
        #expect(feed.taken() == ["gapOpened(hole)", "not live for 1"])
        feed.tick(after: FanoutLimits.gapMilliseconds)
        feed.stateRead(Self.state(8))
        #expect(feed.taken() == ["read state", "jumped", "jump to 8 for 1", "live for 1"])
    }

    @Test("an event without a sequence number goes to the attached loops at once, also across a gap")
    func unnumbered() {
        var feed = Driver.live(at: 5)
        feed.received(8, 0)
        #expect(feed.taken() == ["gapOpened(hole)", "deliver 0 to 1"])
    }

    @Test("a gap is filled from the log, and the held events follow it in order")
    func gapIsFilled() {
        var feed = Driver.live(at: 5)
        feed.received(6, 9, 8, 6)
        #expect(feed.taken() == ["deliver 6 to 1", "gapOpened(hole)", "duplicate"])
        feed.tick()
        feed.tick()
        #expect(feed.taken() == ["read log after 6"])
        feed.logRead(7...9)
        #expect(feed.taken() == ["deliver 7 to 1", "deliver 8 to 1", "deliver 9 to 1", "gapFilled"])
        #expect(feed.machine.last == 9)
        #expect(feed.machine.isRepairing == false)
    }

    @Test("a log read that fails is repeated, and is never taken for an empty log")
    func failedLogRead() {
        var feed = Driver.live(at: 5)
        feed.received(8)
        feed.tick()
        feed.logRead(nil)
        feed.tick(after: 100)
        #expect(feed.taken() == ["gapOpened(hole)", "read log after 5"])
        feed.tick(after: 100)
        #expect(feed.taken() == ["read log after 5"])
    }

    @Test("a gap that stays for a second ends in one declared jump, and what was held follows")
    func gapIsGivenUp() {
        var feed = Driver.live(at: 5)
        feed.received(9)
        feed.tick(after: 999, mayReadLog: false)
        #expect(feed.taken() == ["gapOpened(hole)"])
        feed.tick(after: 1)
        #expect(feed.taken() == ["read state"])
        feed.stateRead(Self.state(6))
        #expect(feed.taken() == ["jumped", "jump to 8 for 1", "deliver 9 to 1"])
    }

    @Test("a state ahead of the held events is jumped to, and they are dropped")
    func jumpAhead() {
        var feed = Driver.live(at: 5)
        feed.received(9)
        feed.tick(after: 1_000)
        feed.stateRead(Self.state(12))
        feed.received(10, 13)
        #expect(
            feed.taken() == [
                "gapOpened(hole)", "read state", "jumped", "jump to 12 for 1", "duplicate", "deliver 13 to 1",
            ])
    }

    @Test("more held events than the bound are a jump at once")
    func tooManyHeld() {
        var feed = Driver.live(at: 5, heldEvents: 2)
        feed.received(8, 10, 12)
        #expect(feed.taken() == ["gapOpened(hole)", "read state"])
        feed.stateRead(nil)
        #expect(feed.taken() == ["jumped", "jump to 7 for 1", "deliver 8 to 1", "gapOpened(hole)"])
    }

    @Test("a lost link keeps the loops, and what was missed meanwhile is read from the log")
    func reconnect() {
        var feed = Driver.live(at: 5)
        feed.linkLost()
        feed.subscribed()
        #expect(feed.taken() == ["read state"])
        feed.stateRead(Self.state(8))
        #expect(feed.taken() == ["gapOpened(reconnect)"])
        feed.tick()
        feed.logRead(6...8)
        #expect(
            feed.taken() == [
                "read log after 5", "deliver 6 to 1", "deliver 7 to 1", "deliver 8 to 1", "gapFilled",
            ])
    }

    @Test("a link that is lost in the middle of a repair begins it anew")
    func lostWhileRepairing() {
        var feed = Driver.live(at: 5)
        feed.received(8)
        feed.tick()
        feed.linkLost()
        feed.tick(after: 2_000)
        #expect(feed.taken() == ["gapOpened(hole)", "read log after 5"])
        feed.subscribed()
        feed.stateRead(Self.state(8))
        feed.tick()
        #expect(feed.taken() == ["read state", "gapOpened(reconnect)", "read log after 5"])
    }

    @Test("a resume within the ring is answered from it; an older one by one read of the log")
    func resuming() {
        var feed = Driver.live(at: 5, historyEvents: 2)
        feed.received(6, 7, 8)
        _ = feed.taken()
        feed.attach(1, [])
        #expect(feed.taken() == ["attach 2 at 5+7,8"])
        feed.attach(1, [.state, .log])
        feed.attach(2, [.state, .log])
        #expect(feed.taken() == ["read state"])
        feed.stateRead(Self.state(8))
        feed.attach(3, [.state, .log])
        #expect(feed.taken() == ["read history", "read state"])
        feed.stateRead(Self.state(8))
        feed.historyRead(1...8)
        #expect(feed.taken() == ["attach 14 at 8+1,2,3,4,5,6,7,8 thorough"])
        feed.attach(0, [.state, .log])
        #expect(feed.taken() == ["attach 1 at 8+1,2,3,4,5,6,7,8 thorough"])
        feed.machine.narrow()
        #expect(feed.machine.historyCount == 2)
    }

    @Test("a joiner waits for a state that Redis lost, and after three seconds gets the older one")
    func lostState() {
        var feed = Driver.live(at: 5, historyEvents: 2)
        feed.received(6, 7, 8)
        feed.attach(1, .state)
        feed.stateRead(nil)
        #expect(
            feed.taken() == [
                "deliver 6 to 1", "deliver 7 to 1", "deliver 8 to 1", "read state", "read state again",
            ])
        feed.now += 2_999
        feed.stateRead(nil)
        #expect(feed.taken() == ["read state again"])
        feed.now += 1
        feed.stateRead(nil)
        #expect(feed.taken() == ["attach 2 at 8+7,8"])
    }

    @Test("a loop whose mailbox overflowed is sent the ring, and no event before that")
    func overflow() {
        var feed = Driver.live(at: 5)
        feed.attach(1, [])
        feed.machine.overflow(loop: 1)
        feed.received(6)
        feed.catchUp([])
        #expect(feed.taken() == ["attach 2 at 5+", "deliver 6 to 3"])
        #expect(feed.machine.overflowed == LoopSet(loop: 1))
        feed.catchUp(LoopSet(loop: 1))
        #expect(feed.taken() == ["attach 2 at 5+6"])
        #expect(feed.machine.overflowed == [])
    }

    @Test("a loop that missed events is not answered while no state leads to the ring")
    func overflowWithoutState() {
        var feed = Driver.live(at: 5, historyEvents: 2)
        feed.machine.overflow(loop: 0)
        feed.attach(0, [.state, .log])
        feed.stateRead(Self.state(5))
        #expect(feed.taken() == ["read state", "read history"])
        // The ring moves past the state while the log is being read, and the log has lost the beginning.
        feed.received(6, 7, 8, 9)
        _ = feed.taken()
        feed.historyRead(8...9)
        #expect(feed.taken() == ["read state"])
        feed.stateRead(Self.state(9))
        feed.historyRead(8...9)
        #expect(feed.taken() == ["read history", "attach 1 at 9+8,9 thorough"])
    }

    @Test("a user's topic has no state: it is live with its subscription, and everything passes")
    func userTopic() {
        var feed = Driver(.user("u"))
        feed.attach(0, [])
        feed.subscribed()
        feed.received(0)
        #expect(feed.taken() == ["attach 1 at 0+", "deliver 0 to 1"])
    }

    @Test("an auction that nobody watches is kept only when there was something to keep")
    func leaving() {
        var feed = Driver()
        feed.attach(0, .state)
        #expect(feed.machine.isWatched == true)
        feed.machine.detach(loop: 0)
        #expect(feed.machine.isWatched == false)
        #expect(feed.machine.hasHadSomething == false)
        var other = Driver.live(at: 5)
        other.machine.detach(loop: 0)
        other.received(6)
        #expect(other.machine.isWatched == false)
        #expect(other.machine.hasHadSomething == true)
        #expect(other.taken() == ["deliver 6 to 0"])
    }
}
