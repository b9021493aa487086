// The life of a link to one Redis server, without its sockets: connecting, greeting, proving and being up.
// Two proofs show that the link stays up: the probe and the relay's heartbeat. Pure: the time and events come
// in, and actions go out. ``RedisLink`` carries the actions out.

package struct LinkMachine {
    package enum Phase: Equatable, Sendable {
        /// Can transition to: connecting.
        case waiting(until: Int64)
        /// Sockets, TLS and the greeting are under way. Can transition to: proving, waiting.
        case connecting(deadline: Int64)
        /// Both connections are greeted; the first probe is not back. Can transition to: up, waiting.
        case proving(deadline: Int64)
        /// Can transition to: waiting.
        case up
    }

    package enum Action: Equatable, Sendable {
        /// Open both connections, to the address that the look-up has.
        case connect
        /// Subscribe to the probe's channel and the relay's, and try the commands that repairs need.
        case prove
        /// Write, read back and publish this number.
        case probe(UInt64)
        /// The link delivers.
        case comeUp
        /// The relay's heartbeat is here, for the first time or again.
        case hearRelay
        /// Look the server's name up again.
        case lookUp
        /// Close both connections, for this reason, and call ``lost(now:using:)``.
        case lose(String)
    }

    package struct Times: Sendable {
        /// How long connecting may take, from the first packet to the greeting's answer.
        package var connecting: Int64 = 2_000
        package var probeInterval: Int64 = 500
        /// A probe that is not back within this means that the link does not deliver.
        package var probeReturn: Int64 = 2_000
        /// How long the relay's heartbeat may stay away: at first, and at most after attempts that did not
        /// help.
        package var relayPatience: Int64 = 10_000
        package var longestRelayPatience: Int64 = 60_000
        /// How long a look-up may take before the link is made anew with the addresses at hand.
        package var lookup: Int64 = 2_000
        /// How long after the previous tick a tick counts as late. Replies may then be waiting unread.
        package var heldUp: Int64 = 1_000

        package init() {}
    }

    package private(set) var phase = Phase.waiting(until: 0)
    private let address: String
    private let times: Times
    private var backoff = Backoff()
    /// Commands of the greeting that are not answered yet.
    private var greetingsLeft = 0
    /// Why the link must be given up, found while replies are being read.
    private var fault: String?

    // The owner's turns
    private var lastTickAt: Int64?
    /// True when the last tick was late, and deadlines were moved.
    private var isExcused = false

    // The probe
    private var nextProbeAt: Int64 = 0
    private var probeNumber: UInt64 = 0
    private var oldestProbeSentAt: Int64?
    /// When a probe came back last; `nil` before the first.
    package private(set) var provedAt: Int64?

    // The relay's heartbeat
    /// When the heartbeat arrived last, or when the link came up after it; `nil` when it has never arrived.
    private var relayHeardAt: Int64?
    private var relayPatience: Int64
    private var lookingSince: Int64?
    /// True from the moment at which the heartbeat has stayed away too long until it arrives again.
    package private(set) var isRelayMissing = false

    /// - Parameter address: of the server, for messages.
    package init(address: String, times: Times = Times()) {
        self.address = address
        self.times = times
        relayPatience = times.relayPatience
    }

    /// True while the link delivers: probes come back.
    package var isUp: Bool { phase == .up }

    private static let probeLost = "a published probe did not come back"

    // MARK: Time

    /// Returns the actions that are due at `now`.
    /// - Parameter isLookingUp: true while a look-up of the name is under way.
    package mutating func tick(now: Int64, isLookingUp: Bool) -> [Action] {
        noteTick(now)
        switch phase {
        case .waiting(let until): return now >= until ? [.connect] : []
        case .connecting(let deadline):
            return now >= deadline ? [.lose("connecting to \(address) timed out")] : []
        case .proving(let deadline): return now >= deadline ? [.lose(Self.probeLost)] : []
        case .up:
            if let sentAt = oldestProbeSentAt, now - sentAt > times.probeReturn {
                return [.lose(Self.probeLost)]
            }
            return (now >= nextProbeAt ? [probe(now: now)] : []) + checkRelay(now: now, isLookingUp)
        }
    }

    /// After a late tick, deadlines move by the time for which the owner was held up: the machine was
    /// suspended, or a turn took seconds. Replies may wait unread. An owner that is always late is excused
    /// every other time only, so that a dead link is still noticed.
    private mutating func noteTick(_ now: Int64) {
        let lost = lastTickAt.map { now - $0 } ?? 0
        lastTickAt = now
        isExcused = lost > times.heldUp && !isExcused
        guard isExcused else { return }
        func moved(_ time: Int64?) -> Int64? { time.map { min(now, $0 + lost) } }
        oldestProbeSentAt = moved(oldestProbeSentAt)
        relayHeardAt = moved(relayHeardAt)
        lookingSince = moved(lookingSince)
        switch phase {
        case .waiting, .up: break
        case .connecting(let deadline): phase = .connecting(deadline: deadline + lost)
        case .proving(let deadline): phase = .proving(deadline: deadline + lost)
        }
    }

    private mutating func probe(now: Int64) -> Action {
        nextProbeAt = now + times.probeInterval
        probeNumber += 1
        if oldestProbeSentAt == nil { oldestProbeSentAt = now }
        return .probe(probeNumber)
    }

    /// When the heartbeat has been heard and stays away, this may be the wrong server. Looks the name up, and
    /// then makes the link anew. Each further attempt waits twice as long.
    private mutating func checkRelay(now: Int64, _ isLookingUp: Bool) -> [Action] {
        guard let heardAt = relayHeardAt, now - heardAt > relayPatience else { return [] }
        guard let since = lookingSince else {
            lookingSince = now
            return [.lookUp]
        }
        guard !isLookingUp || now - since > times.lookup else { return [] }
        isRelayMissing = true
        let seconds = relayPatience / 1_000
        relayPatience = min(2 * relayPatience, times.longestRelayPatience)
        return [
            .lose(
                "no heartbeat from the bid API for \(seconds) s: bids may be going to another Redis")
        ]
    }

    // MARK: Connecting

    /// The connections are being opened.
    package mutating func connecting(now: Int64) {
        phase = .connecting(deadline: now + times.connecting)
    }

    /// Both connections are open, and the greeting was sent over them.
    /// - Parameter commands: how many commands the greeting has, over both; 0 when Redis wants none.
    package mutating func greeted(commands: Int, now: Int64) -> Action? {
        greetingsLeft = commands
        return commands == 0 ? prove(now: now) : nil
    }

    /// Redis accepted one command of the greeting.
    package mutating func greetingAccepted(now: Int64) -> Action? {
        greetingsLeft -= 1
        guard greetingsLeft == 0, case .connecting = phase else { return nil }
        return prove(now: now)
    }

    private mutating func prove(now: Int64) -> Action {
        phase = .proving(deadline: now + times.probeReturn)
        // The first probe goes out when its subscription is confirmed.
        nextProbeAt = .max
        return .prove
    }

    // MARK: Proofs

    /// The subscription to the probe's channel is confirmed.
    package mutating func probeSubscribed(now: Int64) -> Action {
        probe(now: now)
    }

    package mutating func probeReturned(now: Int64) -> Action? {
        oldestProbeSentAt = nil
        provedAt = now
        guard case .proving = phase else { return nil }
        phase = .up
        backoff.reset()
        // Where the heartbeat was heard before, it must be heard again within its time.
        if relayHeardAt != nil { relayHeardAt = now }
        return .comeUp
    }

    package mutating func relayBeat(now: Int64) -> Action? {
        let isNews = relayHeardAt == nil || isRelayMissing
        relayHeardAt = now
        relayPatience = times.relayPatience
        lookingSince = nil
        isRelayMissing = false
        return isNews ? .hearRelay : nil
    }

    // MARK: Loss

    /// The server is at another address now. A link that waits connects at once.
    package mutating func serverMoved(now: Int64) {
        guard case .waiting = phase else { return }
        backoff.reset()
        phase = .waiting(until: now)
    }

    /// The server refused a probe for the moment. A link that is up waits for the next one; another one is
    /// made anew.
    package mutating func probeDeferred(_ reason: String) {
        guard !isUp else { return }
        fail(reason)
    }

    /// The probe has another name from now on. What was sent under the old one may never come back.
    package mutating func probeRenamed() {
        oldestProbeSentAt = nil
    }

    /// Something was refused or answered wrongly: the link must be given up. The first reason stands.
    package mutating func fail(_ reason: String) {
        if fault == nil { fault = reason }
    }

    /// Why the link must be given up, if it must.
    package var failure: String? { fault }

    /// The connections are closed.
    package mutating func lost(now: Int64, using generator: inout some RandomNumberGenerator) {
        phase = .waiting(until: now + backoff.next(using: &generator))
        greetingsLeft = 0
        fault = nil
        oldestProbeSentAt = nil
        lookingSince = nil
    }
}
