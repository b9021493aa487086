import RedisLink
import TestSupport
import Testing

/// A link's life, without a server.
@Suite struct LinkMachineTests {
    private var generator = SeededGenerator(seed: 1)

    /// A machine that is up at 0, with its first probe back.
    private static func up(commands: Int = 4) -> LinkMachine {
        var machine = LinkMachine(address: "redis:6379")
        machine.connecting(now: 0)
        var action = machine.greeted(commands: commands, now: 0)
        for _ in 0..<commands { action = machine.greetingAccepted(now: 0) }
        #expect(action == .prove)
        #expect(machine.probeSubscribed(now: 0) == .probe(1))
        #expect(machine.probeReturned(now: 0) == .comeUp)
        return machine
    }

    @Test("a link is up only when the greeting is accepted and the first probe is back")
    func comingUp() {
        var machine = LinkMachine(address: "redis:6379")
        #expect(machine.tick(now: 0, isLookingUp: false) == [.connect])
        machine.connecting(now: 0)
        #expect(machine.greeted(commands: 2, now: 1) == nil)
        #expect(machine.greetingAccepted(now: 1) == nil)
        #expect(machine.greetingAccepted(now: 1) == .prove)
        #expect(!machine.isUp && machine.tick(now: 5, isLookingUp: false).isEmpty)
        #expect(machine.probeSubscribed(now: 5) == .probe(1))
        #expect(!machine.isUp)
        #expect(machine.probeReturned(now: 6) == .comeUp)
        #expect(machine.isUp)
    }

    @Test("a server that wants no greeting is proved at once")
    func noGreeting() {
        var machine = LinkMachine(address: "redis:6379")
        machine.connecting(now: 0)
        #expect(machine.greeted(commands: 0, now: 0) == .prove)
    }

    @Test("a refused password is why the link is lost, and the next attempt backs off")
    mutating func refusedAuthentication() {
        var machine = LinkMachine(address: "redis:6379")
        machine.connecting(now: 0)
        _ = machine.greeted(commands: 2, now: 0)
        machine.fail("WRONGPASS invalid username-password pair")
        machine.fail("something later")
        #expect(machine.failure == "WRONGPASS invalid username-password pair")
        machine.lost(now: 0, using: &generator)
        #expect(machine.failure == nil && machine.tick(now: 5, isLookingUp: false).isEmpty)
        #expect(machine.tick(now: 20, isLookingUp: false) == [.connect])
    }

    @Test("attempts wait longer and longer, at most half a second, and shortly again after a success")
    mutating func backoff() {
        var machine = LinkMachine(address: "redis:6379")
        var longest: Int64 = 0
        for _ in 0..<10 {
            machine.lost(now: 0, using: &generator)
            guard case .waiting(let until) = machine.phase else { return }
            longest = max(longest, until)
        }
        #expect((250...500).contains(longest))
        machine = Self.up()
        machine.lost(now: 0, using: &generator)
        #expect(machine.tick(now: 20, isLookingUp: false) == [.connect])
    }

    @Test("connecting has two seconds, and so has the first probe")
    func deadlines() {
        var machine = LinkMachine(address: "redis:6379")
        machine.connecting(now: 0)
        #expect(machine.tick(now: 1_999, isLookingUp: false).isEmpty)
        #expect(machine.tick(now: 2_000, isLookingUp: false) == [.lose("connecting to redis:6379 timed out")])
        _ = machine.greeted(commands: 0, now: 1_000)
        #expect(machine.tick(now: 2_999, isLookingUp: false).isEmpty)
        #expect(
            machine.tick(now: 3_000, isLookingUp: false) == [.lose("a published probe did not come back")])
    }

    @Test("a probe goes out each half second, and one that is not back in two seconds means a lost link")
    func probes() {
        var machine = Self.up()
        #expect(machine.tick(now: 499, isLookingUp: false).isEmpty)
        #expect(machine.tick(now: 500, isLookingUp: false) == [.probe(2)])
        #expect(machine.probeReturned(now: 501) == nil)
        #expect(machine.provedAt == 501)
        #expect(machine.tick(now: 1_000, isLookingUp: false) == [.probe(3)])
        #expect(machine.tick(now: 1_500, isLookingUp: false) == [.probe(4)])
        #expect(
            machine.tick(now: 2_500, isLookingUp: false) == [.probe(5)])
        #expect(
            machine.tick(now: 3_001, isLookingUp: false) == [.lose("a published probe did not come back")])
    }

    @Test("time for which the owner was held up does not count")
    func heldUp() {
        var machine = Self.up()
        #expect(machine.relayBeat(now: 0) == .hearRelay)
        #expect(machine.tick(now: 500, isLookingUp: false) == [.probe(2)])
        // The machine was suspended. The replies are read in later turns.
        #expect(machine.tick(now: 60_000, isLookingUp: false) == [.probe(3)])
        #expect(machine.tick(now: 60_001, isLookingUp: false).isEmpty)
        #expect(machine.probeReturned(now: 60_002) == nil)
        #expect(machine.tick(now: 60_100, isLookingUp: false).isEmpty)
        // Now nothing comes back.
        #expect(machine.tick(now: 60_600, isLookingUp: false) == [.probe(4)])
        for now in stride(from: Int64(60_700), through: 62_600, by: 100) {
            let isLost = machine.tick(now: now, isLookingUp: false).contains {
                if case .lose = $0 { true } else { false }
            }
            #expect(!isLost, "\(now)")
        }
        #expect(
            machine.tick(now: 62_601, isLookingUp: false) == [.lose("a published probe did not come back")])
    }

    @Test("an owner that is always late still notices a dead link")
    func alwaysLate() {
        var machine = Self.up()
        var actions: [LinkMachine.Action] = []
        for turn in 1...4 { actions += machine.tick(now: Int64(turn) * 3_000, isLookingUp: false) }
        #expect(actions.contains(.lose("a published probe did not come back")))
    }

    @Test("connecting and proving have their time from when the owner runs again")
    func heldUpWhileConnecting() {
        var machine = LinkMachine(address: "redis:6379")
        _ = machine.tick(now: 0, isLookingUp: false)
        machine.connecting(now: 0)
        #expect(machine.tick(now: 5_000, isLookingUp: false).isEmpty)
        #expect(machine.tick(now: 5_001, isLookingUp: false).isEmpty)
        #expect(machine.greeted(commands: 0, now: 5_002) == .prove)
        #expect(machine.tick(now: 9_000, isLookingUp: false).isEmpty)
        #expect(machine.tick(now: 9_001, isLookingUp: false).isEmpty)
    }

    @Test("a heartbeat that was heard and stays away leads to a look-up and then to a new link, ever later")
    mutating func relay() {
        var machine = Self.up()
        #expect(machine.relayBeat(now: 100) == .hearRelay)
        #expect(machine.relayBeat(now: 1_100) == nil)
        typealias Actions = [LinkMachine.Action]
        var earlier: Int64 = 1_100
        /// Ticks every 250 ms up to `now`, while every probe comes back. Returns what is due at `now`.
        func quiet(_ machine: inout LinkMachine, at now: Int64, isLookingUp: Bool = false) -> Actions {
            func tick(_ now: Int64) -> Actions {
                _ = machine.probeReturned(now: now)
                return machine.tick(now: now, isLookingUp: isLookingUp).filter {
                    if case .probe = $0 { false } else { true }
                }
            }
            for early in stride(from: earlier, to: now, by: 250) { #expect(tick(early).isEmpty) }
            earlier = now
            return tick(now)
        }
        #expect(quiet(&machine, at: 11_100).isEmpty)
        #expect(quiet(&machine, at: 11_101) == [.lookUp])
        #expect(quiet(&machine, at: 11_200, isLookingUp: true).isEmpty)
        #expect(!machine.isRelayMissing)
        let lost = quiet(&machine, at: 13_102, isLookingUp: true)
        #expect(lost.count == 1 && machine.isRelayMissing)
        machine.lost(now: 13_102, using: &generator)
        // The link comes up again, and the heartbeat is still missing: now it has twenty seconds.
        machine.connecting(now: 14_000)
        _ = machine.greeted(commands: 0, now: 14_000)
        #expect(machine.probeReturned(now: 14_000) == .comeUp)
        earlier = 14_000
        #expect(quiet(&machine, at: 34_000).isEmpty)
        #expect(quiet(&machine, at: 34_001) == [.lookUp])
        #expect(machine.relayBeat(now: 34_500) == .hearRelay && !machine.isRelayMissing)
    }

    @Test("where no heartbeat has ever arrived, the probe alone counts")
    func noRelay() {
        var machine = Self.up()
        for second in 1...100 {
            _ = machine.probeReturned(now: Int64(second) * 1_000)
            #expect(machine.tick(now: Int64(second) * 1_000, isLookingUp: false).count == 1)
        }
    }
}
