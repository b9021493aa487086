// The gateway's link to one Redis server: a subscribing and a commanding connection that live and die
// together. It connects with back-off and jitter, greets, and proves delivery with a probe: it writes a key,
// reads it back, publishes, and must receive what it published. A server that only looks alive fails one of
// these steps: a demoted one, one out of memory, one behind a proxy, a node of a cluster. The link is up from
// the first probe that came back. It also listens for the relay's heartbeat, which shows that bids arrive at
// this very server. Owned by one loop; every method is called on that loop's thread.

import CHiredis
import DequeModule
package import Reactor

/// What the owner of a link is told. Spans live for the length of the call.
package protocol RedisLinkOwner: AnyObject {
    /// The first probe came back. Commands and subscriptions are taken from now on; all earlier subscriptions
    /// are gone.
    func linkIsUp(_ link: Int)
    /// - Parameter reason: why, in one line without a secret. Called for each failed attempt to connect, too.
    func linkIsDown(_ link: Int, reason: String)
    /// The relay's heartbeat arrived for the first time, or again after it had stayed away.
    func linkHearsRelay(_ link: Int)
    /// Redis does not let this user subscribe to the relay's heartbeat. The probe alone counts then.
    func linkCannotHearRelay(_ link: Int, _ refusal: RedisRefusal)
    func linkSubscribed(_ link: Int, channel: String)
    /// Redis refuses this one channel.
    func linkRefused(_ link: Int, channel: String, _ refusal: RedisRefusal)
    func linkReceived(_ link: Int, channel: Span<UInt8>, message: Span<UInt8>)
}

package final class RedisLink {
    /// Channels in one SUBSCRIBE command.
    private static let subscribeBatch = 500
    /// From the first packet to the greeting's answer.
    private static let connectTimeoutMilliseconds: Int64 = 2_000
    private static let probeIntervalMilliseconds: Int64 = 1_000
    /// A probe that is not back within this means that the link does not deliver.
    private static let probeTimeoutMilliseconds: Int64 = 2_000
    /// How long Redis keeps the key that probes write.
    private static let probeKeyMilliseconds = 60_000
    /// How long the relay's heartbeat may stay away: at first, and at most after attempts that did not help.
    private static let relayPatienceMilliseconds: Int64 = 10_000
    private static let longestRelayPatienceMilliseconds: Int64 = 60_000
    /// How long a look-up may take before the link is made anew with the addresses at hand.
    private static let lookupPatienceMilliseconds: Int64 = 2_000

    /// The place of the link in its owner's list, the poller tokens of its two connections, and the name that
    /// tells the link's probes from those of all other links.
    package struct Identity: Sendable {
        package let index: Int
        package let subscriberToken: UInt64
        package let commandToken: UInt64
        package let probeName: String

        package init(index: Int, subscriberToken: UInt64, commandToken: UInt64, probeName: String) {
            self.index = index
            self.subscriberToken = subscriberToken
            self.commandToken = commandToken
            self.probeName = probeName
        }
    }

    private enum State {
        /// Can transition to: connecting.
        case waiting(until: Int64)
        /// Sockets, TLS and the greeting are under way. Can transition to: proving, waiting.
        case connecting(Connections, deadline: Int64)
        /// Both connections are greeted; the first probe is not back. Can transition to: up, waiting.
        case proving(Connections, deadline: Int64)
        /// Can transition to: waiting.
        case up(Connections)

        var connections: Connections? {
            switch self {
            case .waiting: nil
            case .connecting(let connections, _), .proving(let connections, _), .up(let connections):
                connections
            }
        }
    }

    private struct Connections {
        let subscriber: RedisConnection
        let command: RedisConnection
    }

    package typealias Completion = (RedisAnswer) -> Void

    package let url: RedisURL
    private let lookup: HostLookup
    private let identity: Identity
    private unowned let owner: any RedisLinkOwner
    private var state = State.waiting(until: 0)
    private var backoff = Backoff()
    private var generator: any RandomNumberGenerator
    private var completions: Deque<Completion> = []
    private var ledger = SubscriptionLedger()
    /// Commands of the greeting, on both connections, that are not answered yet.
    private var greetingsLeft = 0
    /// Why the link must be given up, found while replies are being read.
    private var fault: String?
    private var now: Int64 = 0

    // The probe
    private let probeName: String
    private var nextProbeAt: Int64 = 0
    private var probeNumber: UInt64 = 0
    private var oldestProbeSentAt: Int64?

    // The relay's heartbeat
    /// When it arrived last, or the link came up after it; `nil` when it has never arrived.
    private var relayHeardAt: Int64?
    private var relayPatience = RedisLink.relayPatienceMilliseconds
    private var lookingSince: Int64?
    /// True from the moment at which the heartbeat has stayed away too long until it arrives again.
    package private(set) var isRelayMissing = false

    package init(
        url: RedisURL, identity: Identity, owner: any RedisLinkOwner,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.url = url
        lookup = HostLookup(url.address)
        self.identity = identity
        probeName = RedisKeys.probe(identity.probeName)
        self.owner = owner
        self.generator = generator
    }

    /// True while the link delivers: probes come back.
    package var isUp: Bool {
        if case .up = state { true } else { false }
    }

    // MARK: Requests

    /// Subscribes to `channels`; the owner is told of each confirmation and each refusal. Ignored while the
    /// link is down, because the owner subscribes anew when it comes up.
    package func subscribe(_ channels: [String]) {
        guard case .up(let connections) = state else { return }
        for start in stride(from: 0, to: channels.count, by: Self.subscribeBatch) {
            let end = min(start + Self.subscribeBatch, channels.count)
            subscribe(Array(channels[start..<end]), over: connections)
        }
    }

    package func unsubscribe(_ channel: String) {
        guard case .up(let connections) = state else { return }
        connections.subscriber.send(["UNSUBSCRIBE", channel])
        ledger.sentUnsubscribe()
    }

    /// Sends a command. While the link is down it completes at once with ``RedisAnswer/lost``.
    package func command(_ arguments: [String], _ completion: @escaping Completion) {
        guard case .up(let connections) = state else { return completion(.lost) }
        send(arguments, over: connections, completion)
    }

    private func send(
        _ arguments: [String], over connections: Connections, _ completion: @escaping Completion
    ) {
        connections.command.send(arguments)
        completions.append(completion)
    }

    private func subscribe(_ channels: [String], over connections: Connections) {
        connections.subscriber.send(["SUBSCRIBE"] + channels)
        ledger.sentSubscribe(channels)
    }

    // MARK: Events

    /// Handles a poller event of one of the link's two tokens.
    package func handle(
        _ event: Poller.Event, now: Int64, buffer: UnsafeMutableRawBufferPointer, poller: borrowing Poller
    ) {
        self.now = now
        guard let connections = state.connections else { return }
        let isSubscriber = event.token == identity.subscriberToken
        let connection = isSubscriber ? connections.subscriber : connections.command
        do throws(RedisConnection.Failure) {
            if !connection.isConnected {
                try connection.continueConnecting(event, poller: poller)
                guard connection.isConnected else { return }
                greet(connections)
            }
            if event.isReadable || event.isBroken {
                try connection.receive(into: buffer) { reply in
                    guard fault == nil else { return }
                    if isSubscriber {
                        receiveFromSubscription(reply)
                    } else {
                        receiveReply(RedisReply(reply))
                    }
                }
                if let fault { throw .broken(fault) }
            }
            try connections.subscriber.flush(poller: poller)
            try connections.command.flush(poller: poller)
        } catch {
            lose(error.description, poller: poller)
        }
    }

    /// Does what is due at `now`: connecting, time-outs, probes. Call at least every 250 ms.
    package func tick(now: Int64, poller: borrowing Poller) {
        self.now = now
        switch state {
        case .waiting(let until):
            guard now >= until else { return }
            connect(poller: poller)
        case .connecting(_, let deadline):
            if now >= deadline { lose("connecting to \(url.address) timed out", poller: poller) }
        case .proving(_, let deadline):
            if now >= deadline { lose(Self.probeLost, poller: poller) }
        case .up(let connections):
            if let sentAt = oldestProbeSentAt, now - sentAt > Self.probeTimeoutMilliseconds {
                return lose(Self.probeLost, poller: poller)
            }
            if now >= nextProbeAt { probe(over: connections) }
            checkRelay(poller: poller)
        }
    }

    private static let probeLost = "a published probe did not come back"

    /// Writes what was requested in this turn.
    package func flush(now: Int64, poller: borrowing Poller) {
        self.now = now
        guard let connections = state.connections else { return }
        do throws(RedisConnection.Failure) {
            try connections.subscriber.flush(poller: poller)
            try connections.command.flush(poller: poller)
        } catch {
            lose(error.description, poller: poller)
        }
    }

    // MARK: Life cycle

    private func connect(poller: borrowing Poller) {
        switch lookup.next() {
        case .pending: break
        case .failed(let error): lose("\(error)", poller: poller)
        case .address(let address): connect(to: address, poller: poller)
        }
    }

    private func connect(to address: ResolvedAddress, poller: borrowing Poller) {
        do throws(RedisConnection.Failure) {
            let subscriber = try RedisConnection(
                url: url, address: address, token: identity.subscriberToken, poller: poller)
            do throws(RedisConnection.Failure) {
                let command = try RedisConnection(
                    url: url, address: address, token: identity.commandToken, poller: poller)
                state = .connecting(
                    Connections(subscriber: subscriber, command: command),
                    deadline: now + Self.connectTimeoutMilliseconds)
            } catch {
                subscriber.close(poller: poller)
                throw error
            }
        } catch {
            lose(error.description, poller: poller)
        }
    }

    private func greet(_ connections: Connections) {
        guard connections.subscriber.isConnected, connections.command.isConnected else { return }
        for command in url.greeting {
            connections.subscriber.send(command)
            ledger.sentGreeting()
            send(command, over: connections) { [unowned self] answer in
                switch answer {
                case .reply: greetingAccepted()
                case .refused(let refusal): fault = refusal.description
                case .lost: break
                }
            }
            greetingsLeft += 2
        }
        if greetingsLeft == 0 { prove(connections) }
    }

    private func greetingAccepted() {
        greetingsLeft -= 1
        guard greetingsLeft == 0, case .connecting(let connections, _) = state else { return }
        prove(connections)
    }

    private func prove(_ connections: Connections) {
        state = .proving(connections, deadline: now + Self.probeTimeoutMilliseconds)
        // Two commands: an access rule against one must not refuse the other.
        subscribe([probeName], over: connections)
        subscribe([RedisKeys.relay], over: connections)
        // What repairs need. A user who may not read logs would find out when it is too late.
        for command in [
            ["XRANGE", probeName + ":log", "-", "+", "COUNT", "1"],
            ["XREVRANGE", probeName + ":log", "+", "-", "COUNT", "1"],
        ] {
            send(command, over: connections) { [unowned self] answer in
                if case .refused(let refusal) = answer { fault = refusal.description }
            }
        }
        nextProbeAt = .max
        // The first probe goes out when its subscription is confirmed.
    }

    private func lose(_ reason: String, poller: borrowing Poller) {
        if let connections = state.connections {
            connections.subscriber.close(poller: poller)
            connections.command.close(poller: poller)
        }
        state = .waiting(until: now + backoff.next(using: &generator))
        lookup.refresh()
        ledger = SubscriptionLedger()
        greetingsLeft = 0
        fault = nil
        oldestProbeSentAt = nil
        lookingSince = nil
        let lost = completions
        completions = []
        for completion in lost { completion(.lost) }
        owner.linkIsDown(identity.index, reason: reason)
    }

    // MARK: Probes

    /// Writes, reads back, and publishes when both have succeeded. Two keys of different cluster slots, so
    /// that a cluster's node is recognised.
    private func probe(over connections: Connections) {
        nextProbeAt = now + Self.probeIntervalMilliseconds
        probeNumber += 1
        let text = "\(probeNumber)"
        if oldestProbeSentAt == nil { oldestProbeSentAt = now }
        send(["SET", probeName, text, "PX", "\(Self.probeKeyMilliseconds)"], over: connections) {
            [unowned self] answer in
            if case .refused(let refusal) = answer { fault = refusal.description }
        }
        send(["MGET", probeName, RedisKeys.filled], over: connections) { [unowned self] answer in
            switch answer {
            case .lost: return
            case .refused(let refusal): fault = refusal.description
            case .reply(let reply):
                guard reply.array?.first == .bytes(Array(text.utf8)) else {
                    fault = "Redis did not keep what a probe had written"
                    return
                }
                guard let connections = state.connections else { return }
                send(["PUBLISH", probeName, text], over: connections) { [unowned self] answer in
                    if case .refused(let refusal) = answer { fault = refusal.description }
                }
            }
        }
    }

    private func probeReturned() {
        oldestProbeSentAt = nil
        guard case .proving(let connections, _) = state else { return }
        state = .up(connections)
        backoff.reset()
        // Where the heartbeat was heard before, it must be heard again within its time.
        if relayHeardAt != nil { relayHeardAt = now }
        owner.linkIsUp(identity.index)
    }

    // MARK: The relay's heartbeat

    private func relayBeat() {
        let isNews = relayHeardAt == nil || isRelayMissing
        relayHeardAt = now
        relayPatience = Self.relayPatienceMilliseconds
        lookingSince = nil
        isRelayMissing = false
        if isNews { owner.linkHearsRelay(identity.index) }
    }

    /// Where the heartbeat has been heard and stays away, this may be the wrong server: looks the name up,
    /// and then makes the link anew. Each further attempt waits twice as long.
    private func checkRelay(poller: borrowing Poller) {
        guard let heardAt = relayHeardAt, now - heardAt > relayPatience else { return }
        guard let since = lookingSince else {
            lookingSince = now
            lookup.refresh()
            return
        }
        guard !lookup.isUnderWay || now - since > Self.lookupPatienceMilliseconds else { return }
        isRelayMissing = true
        let seconds = relayPatience / 1_000
        relayPatience = min(2 * relayPatience, Self.longestRelayPatienceMilliseconds)
        lose(
            "the bid API's heartbeat has stayed away for \(seconds) s: bids may arrive at another Redis",
            poller: poller)
    }

    // MARK: Replies

    private func receiveReply(_ reply: RedisReply) {
        guard let completion = completions.popFirst() else {
            fault = "a reply to no request"
            return
        }
        completion(RedisAnswer(reply))
    }

    // SAFETY: `reply` lives until the caller's closure returns; spans made of it do not outlive the calls
    // they are passed to.
    private func receiveFromSubscription(_ reply: UnsafePointer<redisReply>) {
        let value = reply.pointee
        switch value.type {
        case REDIS_REPLY_STATUS:
            ledger.confirmed()
            greetingAccepted()
        case REDIS_REPLY_ERROR: receiveSubscriptionRefusal(RedisReply(reply))
        case REDIS_REPLY_ARRAY:
            guard value.elements == 3, let kind = value.element[0]?.pointee,
                let channel = value.element[1]?.pointee, let payload = value.element[2]?.pointee
            else { return }
            let name = Self.buffer(channel)
            switch kind.len {
            case 7:  // message
                receiveMessage(name, Self.buffer(payload))
            case 9:  // subscribe
                ledger.confirmed()
                subscribed(name)
            case 11: ledger.confirmed()  // unsubscribe
            default: break
            }
        default: break
        }
    }

    private func receiveMessage(_ channel: UnsafeBufferPointer<UInt8>, _ payload: UnsafeBufferPointer<UInt8>)
    {
        // Neither name has a prefix that an auction's or a user's channel has.
        if channel.first == RedisKeys.ownPrefixByte {
            if channel.elementsEqual(probeName.utf8) { return probeReturned() }
            if channel.elementsEqual(RedisKeys.relay.utf8) { return relayBeat() }
        }
        owner.linkReceived(identity.index, channel: channel.span, message: payload.span)
    }

    private func subscribed(_ channel: UnsafeBufferPointer<UInt8>) {
        if channel.elementsEqual(RedisKeys.relay.utf8) { return }
        guard channel.elementsEqual(probeName.utf8) else {
            return owner.linkSubscribed(identity.index, channel: String(decoding: channel, as: UTF8.self))
        }
        if let connections = state.connections { probe(over: connections) }
    }

    private func receiveSubscriptionRefusal(_ reply: RedisReply) {
        guard let refusal = reply.refusal else { return }
        guard refusal.concernsNamesOnly, let connections = state.connections else {
            fault = refusal.description
            return
        }
        switch ledger.refused() {
        case .greeting, .unexpected: fault = refusal.description
        case .retry(let lists): for list in lists { subscribe(list, over: connections) }
        case .channel(probeName): fault = refusal.description
        case .channel(RedisKeys.relay): owner.linkCannotHearRelay(identity.index, refusal)
        case .channel(let channel): owner.linkRefused(identity.index, channel: channel, refusal)
        }
    }

    private static func buffer(_ reply: redisReply) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(
            start: UnsafeRawPointer(reply.str)?.assumingMemoryBound(to: UInt8.self), count: Int(reply.len))
    }
}
