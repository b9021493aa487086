// The gateway's link to one Redis server: a subscribing and a commanding connection that live and die
// together. The link connects with back-off and jitter, greets, and proves delivery with a probe. The probe
// writes a key, reads it back, publishes, and must receive what it published. A server that only looks alive
// fails one of these steps: a demoted one, one out of memory, one behind a proxy, a cluster that is down. The
// link is up from the first probe that came back. It also listens for the relay's heartbeat, which shows that
// bids arrive at this very server. One loop owns the link and calls every method on its own thread.
//
// On a node of a cluster, channels are sharded. Each SSUBSCRIBE names channels of one slot. The node sends
// redirects and ends subscriptions by itself, and the owner decides what follows.

import CHiredis
import DequeModule
package import Reactor

/// What a link tells its owner. Spans live for the length of the call.
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
    /// A cluster's node ended this subscription by itself.
    func linkUnsubscribed(_ link: Int, channel: String)
    /// A cluster's node does not begin these subscriptions now: they live on another node, or the slot is on
    /// the move. Without channels: the link's own probe is at the wrong node.
    /// - Parameter redirect: where they live, if the node has said so.
    func linkDeferred(_ link: Int, channels: [String], _ redirect: RedisRedirect?)
    func linkReceived(_ link: Int, channel: Span<UInt8>, message: Span<UInt8>)
}

package final class RedisLink {
    /// Channels in one SUBSCRIBE command.
    private static let subscribeBatch = 500
    /// How long Redis keeps the key that probes write.
    private static let probeKeyMilliseconds = 60_000

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

    private struct Connections {
        let subscriber: RedisConnection
        let command: RedisConnection
    }

    package typealias Completion = (RedisAnswer) -> Void

    package let endpoint: RedisEndpoint
    private let identity: Identity
    private unowned let owner: any RedisLinkOwner
    private var machine: LinkMachine
    /// While the machine is not waiting.
    private var connections: Connections?
    /// The address of the last attempt to connect.
    private var address: ResolvedAddress?
    private var generator: any RandomNumberGenerator
    private var completions: Deque<Completion> = []
    private var ledger = SubscriptionLedger()
    /// The key and channel of the probes, and the channel of the relay's heartbeat. Both change when a
    /// cluster's node serves other slots.
    private var probeName: String
    private var relayName: String
    /// The tag in these names.
    private var tag: String?
    private var now: Int64 = 0

    package init(
        endpoint: RedisEndpoint, identity: Identity, owner: any RedisLinkOwner,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.endpoint = endpoint
        machine = LinkMachine(address: endpoint.label)
        self.identity = identity
        tag = endpoint.tag
        probeName = endpoint.own(RedisKeys.probe(identity.probeName))
        relayName = endpoint.own(RedisKeys.relay)
        self.owner = owner
        self.generator = generator
    }

    /// True while the link delivers: probes come back.
    package var isUp: Bool { machine.isUp }

    /// When a probe came back last, in the owner's milliseconds; `nil` before the first.
    package var provedAt: Int64? { machine.provedAt }

    /// True from the moment at which the heartbeat has stayed away too long until it arrives again.
    package var isRelayMissing: Bool { machine.isRelayMissing }

    // MARK: Requests

    /// Subscribes to `channels`; the owner is told of each confirmation and each refusal. Ignored while the
    /// link is down, because the owner subscribes anew when it comes up.
    package func subscribe(_ channels: [String]) {
        guard isUp, let connections else { return }
        for channels in commandsFor(channels) {
            for start in stride(from: 0, to: channels.count, by: Self.subscribeBatch) {
                let end = min(start + Self.subscribeBatch, channels.count)
                subscribe(Array(channels[start..<end]), over: connections)
            }
        }
    }

    /// `channels` in groups that one command may name: in a cluster, those of one slot.
    private func commandsFor(_ channels: [String]) -> [[String]] {
        guard endpoint.isClusterNode else { return [channels] }
        return Array(Dictionary(grouping: channels, by: RedisSlots.slot).values)
    }

    package func unsubscribe(_ channel: String) {
        guard isUp, let connections else { return }
        connections.subscriber.send([endpoint.isClusterNode ? "SUNSUBSCRIBE" : "UNSUBSCRIBE", channel])
        ledger.sentUnsubscribe(channel)
    }

    /// Sends a command. While the link is down it completes at once with ``RedisAnswer/lost``.
    package func command(_ arguments: [String], _ completion: @escaping Completion) {
        guard isUp, let connections else { return completion(.lost) }
        send(arguments, over: connections, completion)
    }

    /// Sends a command that a cluster's other node has sent here by ASK.
    package func askedCommand(_ arguments: [String], _ completion: @escaping Completion) {
        command(["ASKING"]) { _ in }
        command(arguments, completion)
    }

    private func send(
        _ arguments: [String], over connections: Connections, _ completion: @escaping Completion
    ) {
        connections.command.send(arguments)
        completions.append(completion)
    }

    private func subscribe(_ channels: [String], over connections: Connections) {
        // A node without a slot can only be proved by a channel of the whole cluster. The link may still have
        // that proof when the first topics arrive, and those are always sharded.
        let isSharded = endpoint.isClusterNode && (tag != nil || !isOwn(channels[0]))
        connections.subscriber.send([isSharded ? "SSUBSCRIBE" : "SUBSCRIBE"] + channels)
        ledger.sentSubscribe(channels)
    }

    // MARK: Events

    /// Handles a poller event of one of the link's two tokens.
    package func handle(
        _ event: Poller.Event, now: Int64, buffer: UnsafeMutableRawBufferPointer, poller: borrowing Poller
    ) {
        self.now = now
        guard let connections else { return }
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
                    guard machine.failure == nil else { return }
                    if isSubscriber {
                        receiveFromSubscription(reply)
                    } else {
                        receiveReply(RedisReply(reply))
                    }
                }
                if let failure = machine.failure { throw .broken(failure) }
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
        if let address, endpoint.hasLeft(address) {
            if connections != nil { lose("\(endpoint.label) has moved", poller: poller) }
            self.address = nil
            machine.serverMoved(now: now)
        }
        if endpoint.tag != tag { rename() }
        for action in machine.tick(now: now, isLookingUp: endpoint.isLookingUp) {
            switch action {
            case .connect: connect(poller: poller)
            case .lookUp: endpoint.refresh()
            case .lose(let reason): lose(reason, poller: poller)
            case .prove, .probe, .comeUp, .hearRelay: perform(action)
            }
        }
    }

    /// Writes what was requested in this turn.
    package func flush(now: Int64, poller: borrowing Poller) {
        self.now = now
        guard let connections else { return }
        do throws(RedisConnection.Failure) {
            try connections.subscriber.flush(poller: poller)
            try connections.command.flush(poller: poller)
        } catch {
            lose(error.description, poller: poller)
        }
    }

    /// Closes the link for good. Commands under way complete with ``RedisAnswer/lost``; the owner is told
    /// nothing else.
    package func close(poller: borrowing Poller) {
        closeConnections(poller: poller)
    }

    // MARK: Life cycle

    private func connect(poller: borrowing Poller) {
        switch endpoint.next() {
        case .pending: break
        case .failed(let reason): lose(reason, poller: poller)
        case .address(let address): connect(to: address, poller: poller)
        }
    }

    private func connect(to address: ResolvedAddress, poller: borrowing Poller) {
        self.address = address
        do throws(RedisConnection.Failure) {
            let subscriber = try RedisConnection(
                endpoint: endpoint, address: address, token: identity.subscriberToken, poller: poller)
            do throws(RedisConnection.Failure) {
                let command = try RedisConnection(
                    endpoint: endpoint, address: address, token: identity.commandToken, poller: poller)
                connections = Connections(subscriber: subscriber, command: command)
                machine.connecting(now: now)
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
        for command in endpoint.access.greeting {
            connections.subscriber.send(command)
            ledger.sentGreeting()
            send(command, over: connections) { [unowned self] answer in
                switch answer {
                case .reply: perform(machine.greetingAccepted(now: now))
                case .refused(let refusal): machine.fail(refusal.description)
                case .lost: break
                }
            }
        }
        perform(machine.greeted(commands: 2 * endpoint.access.greeting.count, now: now))
    }

    /// Carries out what needs no poller.
    private func perform(_ action: LinkMachine.Action?) {
        guard let action, let connections else { return }
        switch action {
        case .prove: prove(connections)
        case .probe(let number): probe(number, over: connections)
        case .comeUp: owner.linkIsUp(identity.index)
        case .hearRelay: owner.linkHearsRelay(identity.index)
        case .connect, .lookUp, .lose: preconditionFailure("\(action) belongs to a tick")
        }
    }

    private func prove(_ connections: Connections) {
        // Two commands: an access rule against one must not refuse the other.
        subscribe([probeName], over: connections)
        subscribe([relayName], over: connections)
        guard tag != nil || !endpoint.isClusterNode else { return }
        // Repairs need these commands. Otherwise a user without access to logs would be noticed too late.
        for command in [
            ["XRANGE", probeName + ":log", "-", "+", "COUNT", "1"],
            ["XREVRANGE", probeName + ":log", "+", "-", "COUNT", "1"],
        ] {
            send(command, over: connections) { [unowned self] in failIfRefused($0) }
        }
    }

    private func failIfRefused(_ answer: RedisAnswer) {
        guard case .refused(let refusal) = answer, !isMigrating(refusal) else { return }
        guard endpoint.isClusterNode, refusal.isPassing else { return machine.fail(refusal.description) }
        machine.probeDeferred(refusal.text)
        if let redirect = RedisRedirect(refusal) {
            owner.linkDeferred(identity.index, channels: [], redirect)
        }
    }

    /// True when only the slot of the link's own key is on its way to another node. The node still serves the
    /// slot's channels, so the probe goes on.
    private func isMigrating(_ refusal: RedisRefusal) -> Bool {
        endpoint.isClusterNode && RedisRedirect(refusal)?.isAsk == true
    }

    /// Takes the names that go with the node's new tag, and proves the link under them.
    private func rename() {
        let old = [probeName, relayName]
        let wasSharded = tag != nil
        tag = endpoint.tag
        probeName = endpoint.own(RedisKeys.probe(identity.probeName))
        relayName = endpoint.own(RedisKeys.relay)
        guard let connections, connections.subscriber.isConnected, connections.command.isConnected else {
            return
        }
        machine.probeRenamed()
        for name in old {
            connections.subscriber.send([wasSharded ? "SUNSUBSCRIBE" : "UNSUBSCRIBE", name])
            ledger.sentUnsubscribe(name)
        }
        subscribe([probeName], over: connections)
        subscribe([relayName], over: connections)
    }

    private func closeConnections(poller: borrowing Poller) {
        if let connections {
            connections.subscriber.close(poller: poller)
            connections.command.close(poller: poller)
        }
        connections = nil
        ledger = SubscriptionLedger()
        let lost = completions
        completions = []
        for completion in lost { completion(.lost) }
    }

    private func lose(_ reason: String, poller: borrowing Poller) {
        closeConnections(poller: poller)
        machine.lost(now: now, using: &generator)
        endpoint.refresh()
        owner.linkIsDown(identity.index, reason: reason)
    }

    // MARK: Probes

    /// Writes a key, reads it back, and publishes when both have succeeded. Outside of clusters the read
    /// names two keys of different slots, so that a cluster's node is recognised.
    private func probe(_ number: UInt64, over connections: Connections) {
        let text = "\(number)"
        let name = probeName
        let isClusterNode = endpoint.isClusterNode
        guard !isClusterNode || tag != nil else { return publishProbe(text, over: connections) }
        send(["SET", name, text, "PX", "\(Self.probeKeyMilliseconds)"], over: connections) {
            [unowned self] in failIfRefused($0)
        }
        let keys = isClusterNode ? [name] : [name, RedisKeys.filled]
        send(["MGET"] + keys, over: connections) { [unowned self] answer in
            switch answer {
            case .lost: return
            case .refused(let refusal):
                guard isMigrating(refusal), name == probeName, let connections = self.connections else {
                    return failIfRefused(answer)
                }
                publishProbe(text, over: connections)
            case .reply(let reply):
                guard reply.array?.first == .bytes(Array(text.utf8)) else {
                    return machine.fail("Redis lost the key that a probe had just written")
                }
                guard let connections = self.connections, name == probeName else { return }
                publishProbe(text, over: connections)
            }
        }
    }

    private func publishProbe(_ text: String, over connections: Connections) {
        let command = endpoint.isClusterNode && tag != nil ? "SPUBLISH" : "PUBLISH"
        send([command, probeName, text], over: connections) { [unowned self] in failIfRefused($0) }
    }

    // MARK: Replies

    private func receiveReply(_ reply: RedisReply) {
        guard let completion = completions.popFirst() else {
            return machine.fail("a reply to no request")
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
            perform(machine.greetingAccepted(now: now))
        case REDIS_REPLY_ERROR: receiveSubscriptionRefusal(RedisReply(reply))
        case REDIS_REPLY_ARRAY:
            guard value.elements == 3, let kind = value.element[0]?.pointee,
                let channel = value.element[1]?.pointee, let payload = value.element[2]?.pointee
            else { return }
            let name = Self.buffer(channel)
            switch kind.len {
            case 7, 8:  // message, smessage
                receiveMessage(name, Self.buffer(payload))
            case 9, 10:  // subscribe, ssubscribe
                ledger.confirmed()
                subscribed(name)
            case 11, 12:  // unsubscribe, sunsubscribe
                unsubscribed(String(decoding: name, as: UTF8.self))
            default: break
            }
        default: break
        }
    }

    private func receiveMessage(_ channel: UnsafeBufferPointer<UInt8>, _ payload: UnsafeBufferPointer<UInt8>)
    {
        // Neither name has a prefix that an auction's or a user's channel has.
        if channel.first == RedisKeys.ownPrefixByte {
            if channel.elementsEqual(probeName.utf8) { return perform(machine.probeReturned(now: now)) }
            if channel.elementsEqual(relayName.utf8) { return perform(machine.relayBeat(now: now)) }
            return
        }
        owner.linkReceived(identity.index, channel: channel.span, message: payload.span)
    }

    private func subscribed(_ channel: UnsafeBufferPointer<UInt8>) {
        if channel.elementsEqual(relayName.utf8) { return }
        guard channel.elementsEqual(probeName.utf8) else {
            return owner.linkSubscribed(identity.index, channel: String(decoding: channel, as: UTF8.self))
        }
        perform(machine.probeSubscribed(now: now))
    }

    private func unsubscribed(_ channel: String) {
        guard !ledger.unsubscribed(channel) else { return }
        guard isOwn(channel) else { return owner.linkUnsubscribed(identity.index, channel: channel) }
        // The link gets another tag when the owner has learned which slots the node serves.
        owner.linkDeferred(identity.index, channels: [], nil)
    }

    private func isOwn(_ channel: String) -> Bool { channel.utf8.first == RedisKeys.ownPrefixByte }

    private func receiveSubscriptionRefusal(_ reply: RedisReply) {
        guard let refusal = reply.refusal else { return }
        let isPassing = endpoint.isClusterNode && refusal.isPassing
        guard isPassing || refusal.concernsNamesOnly, let connections else {
            return machine.fail(refusal.description)
        }
        switch ledger.refused(hasMoved: isPassing) {
        case .greeting, .unexpected: machine.fail(refusal.description)
        case .retry(let lists): for list in lists { subscribe(list, over: connections) }
        case .channel(probeName): machine.fail(refusal.description)
        case .channel(relayName): owner.linkCannotHearRelay(identity.index, refusal)
        case .channel(let channel): owner.linkRefused(identity.index, channel: channel, refusal)
        case .unsubscribed: break
        case .moved(let channels):
            if channels.contains(probeName) { machine.probeDeferred(refusal.text) }
            owner.linkDeferred(
                identity.index, channels: channels.filter { !isOwn($0) }, RedisRedirect(refusal))
        }
    }

    private static func buffer(_ reply: redisReply) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(
            start: UnsafeRawPointer(reply.str)?.assumingMemoryBound(to: UInt8.self), count: Int(reply.len))
    }
}
