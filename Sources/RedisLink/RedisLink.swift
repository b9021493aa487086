// The gateway's link to one Redis server: a subscribing and a commanding connection that live and die
// together. It connects with back-off and jitter, greets, subscribes again to everything after a loss, and
// proves delivery with a probe that it publishes and must receive, because a TCP connection that looks
// healthy may deliver nothing. Owned by one loop; every method is called on that loop's thread.

import CHiredis
import DequeModule
package import Reactor

/// What the owner of a link is told. Spans live for the length of the call.
package protocol RedisLinkOwner: AnyObject {
    /// Commands and subscriptions are taken from now on; all subscriptions of before were lost.
    func linkIsUp(_ link: Int)
    func linkIsDown(_ link: Int, reason: String)
    /// The first probe came back, or none did for too long.
    func linkDelivers(_ link: Int, _ delivers: Bool)
    func linkSubscribed(_ link: Int, channel: String)
    func linkReceived(_ link: Int, channel: Span<UInt8>, message: Span<UInt8>)
}

package final class RedisLink {
    /// Channels in one SUBSCRIBE command.
    private static let subscribeBatch = 500
    private static let connectTimeoutMilliseconds: Int64 = 2_000
    private static let probeIntervalMilliseconds: Int64 = 1_000
    /// A probe that is not back within this means that the link does not deliver.
    private static let probeTimeoutMilliseconds: Int64 = 2_000

    /// The place of the link in its owner's list, and the poller tokens of its two connections.
    package struct Identity: Sendable {
        package let index: Int
        package let subscriberToken: UInt64
        package let commandToken: UInt64

        package init(index: Int, subscriberToken: UInt64, commandToken: UInt64) {
            self.index = index
            self.subscriberToken = subscriberToken
            self.commandToken = commandToken
        }
    }

    private enum State {
        /// Can transition to: connecting.
        case waiting(until: Int64)
        /// Can transition to: up, waiting.
        case connecting(Connections, deadline: Int64)
        /// Can transition to: waiting.
        case up(Connections)
    }

    private struct Connections {
        let subscriber: RedisConnection
        let command: RedisConnection
    }

    /// Called with the reply, or with `nil` when the link was lost before one came.
    package typealias Completion = (RedisReply?) -> Void

    package let url: RedisURL
    private let lookup: HostLookup
    private let identity: Identity
    private let probeChannel: String
    private unowned let owner: any RedisLinkOwner
    private var state = State.waiting(until: 0)
    private var backoff = Backoff()
    private var generator: any RandomNumberGenerator
    private var completions: Deque<Completion> = []

    private var nextProbeAt: Int64 = 0
    private var probeNumber: UInt64 = 0
    private var oldestProbeSentAt: Int64?
    package private(set) var isDelivering = false

    package init(
        url: RedisURL, identity: Identity, probeChannel: String, owner: any RedisLinkOwner,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) {
        self.url = url
        lookup = HostLookup(url.address)
        self.identity = identity
        self.probeChannel = probeChannel
        self.owner = owner
        self.generator = generator
    }

    package var isUp: Bool {
        if case .up = state { true } else { false }
    }

    // MARK: Requests

    /// Subscribes to `channels`; the owner is told of each confirmation. Ignored while the link is down,
    /// because the owner subscribes anew when it comes up.
    package func subscribe(_ channels: [String]) {
        guard case .up(let connections) = state else { return }
        for start in stride(from: 0, to: channels.count, by: Self.subscribeBatch) {
            let batch = channels[start..<min(start + Self.subscribeBatch, channels.count)]
            connections.subscriber.send(["SUBSCRIBE"] + batch)
        }
    }

    package func unsubscribe(_ channel: String) {
        guard case .up(let connections) = state else { return }
        connections.subscriber.send(["UNSUBSCRIBE", channel])
    }

    /// Sends a command. While the link is down it completes at once with `nil`.
    package func command(_ arguments: [String], _ completion: @escaping Completion) {
        guard case .up(let connections) = state else { return completion(nil) }
        connections.command.send(arguments)
        completions.append(completion)
    }

    // MARK: Events

    /// Handles a poller event of one of the link's two tokens.
    package func handle(
        _ event: Poller.Event, now: Int64, buffer: UnsafeMutableRawBufferPointer, poller: borrowing Poller
    ) {
        let connections: Connections
        switch state {
        case .waiting: return
        case .connecting(let pair, _), .up(let pair): connections = pair
        }
        let isSubscriber = event.token == identity.subscriberToken
        let connection = isSubscriber ? connections.subscriber : connections.command
        do throws(RedisConnection.Failure) {
            if !connection.isConnected {
                try connection.continueConnecting(event, poller: poller)
                guard connection.isConnected else { return }
                greet(connections, now: now)
            }
            if event.isReadable || event.isBroken {
                var refusal: String?
                try connection.receive(into: buffer) { reply in
                    if isSubscriber {
                        receiveFromSubscription(reply, now: now, refusal: &refusal)
                    } else {
                        receiveReply(RedisReply(reply), refusal: &refusal)
                    }
                }
                if let refusal { throw .broken(refusal) }
            }
            try connection.flush(poller: poller)
        } catch {
            lose(error.description, now: now, poller: poller)
        }
    }

    /// Does what is due at `now`: connecting, time-outs, probes. Call at least every 250 ms.
    package func tick(now: Int64, poller: borrowing Poller) {
        switch state {
        case .waiting(let until):
            guard now >= until else { return }
            connect(now: now, poller: poller)
        case .connecting(_, let deadline):
            if now >= deadline { lose("connecting to \(url.address) timed out", now: now, poller: poller) }
        case .up:
            if let sentAt = oldestProbeSentAt, now - sentAt > Self.probeTimeoutMilliseconds {
                return lose("a published probe did not come back", now: now, poller: poller)
            }
            if now >= nextProbeAt { probe(now: now) }
        }
    }

    /// Writes what was requested in this turn.
    package func flush(now: Int64, poller: borrowing Poller) {
        guard case .up(let connections) = state else { return }
        do throws(RedisConnection.Failure) {
            try connections.subscriber.flush(poller: poller)
            try connections.command.flush(poller: poller)
        } catch {
            lose(error.description, now: now, poller: poller)
        }
    }

    // MARK: Life cycle

    private func connect(now: Int64, poller: borrowing Poller) {
        switch lookup.next() {
        case .pending: break
        case .failed(let error): lose("\(error)", now: now, poller: poller)
        case .address(let address): connect(to: address, now: now, poller: poller)
        }
    }

    private func connect(to address: ResolvedAddress, now: Int64, poller: borrowing Poller) {
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
            lose(error.description, now: now, poller: poller)
        }
    }

    private func greet(_ connections: Connections, now: Int64) {
        guard connections.subscriber.isConnected, connections.command.isConnected else { return }
        for command in url.greeting {
            connections.subscriber.send(command)
            connections.command.send(command)
            completions.append { _ in }
        }
        state = .up(connections)
        connections.subscriber.send(["SUBSCRIBE", probeChannel])
        // The first probe goes out when this is confirmed; until then the link is on the same clock as a lost
        // probe.
        oldestProbeSentAt = now
        nextProbeAt = .max
        owner.linkIsUp(identity.index)
    }

    private func lose(_ reason: String, now: Int64, poller: borrowing Poller) {
        switch state {
        case .waiting: break
        case .connecting(let connections, _), .up(let connections):
            connections.subscriber.close(poller: poller)
            connections.command.close(poller: poller)
        }
        state = .waiting(until: now + backoff.next(using: &generator))
        lookup.refresh()
        setDelivering(false)
        let lost = completions
        completions = []
        for completion in lost { completion(nil) }
        owner.linkIsDown(identity.index, reason: reason)
    }

    private func probe(now: Int64) {
        nextProbeAt = now + Self.probeIntervalMilliseconds
        probeNumber += 1
        if oldestProbeSentAt == nil { oldestProbeSentAt = now }
        command(["PUBLISH", probeChannel, "\(probeNumber)"]) { _ in }
    }

    private func setDelivering(_ delivers: Bool) {
        guard delivers != isDelivering else { return }
        isDelivering = delivers
        owner.linkDelivers(identity.index, delivers)
    }

    // MARK: Replies

    private func receiveReply(_ reply: RedisReply, refusal: inout String?) {
        if case .error(let text) = reply, text.hasPrefix("NOAUTH") || text.hasPrefix("WRONGPASS") {
            refusal = "Redis refused the credentials: \(text)"
        }
        guard let completion = completions.popFirst() else {
            refusal = "a reply to no request"
            return
        }
        completion(reply)
    }

    // SAFETY: `reply` lives until the caller's closure returns; spans made of it do not outlive the calls
    // they are passed to.
    private func receiveFromSubscription(
        _ reply: UnsafePointer<redisReply>, now: Int64, refusal: inout String?
    ) {
        let value = reply.pointee
        guard value.type == REDIS_REPLY_ARRAY, value.elements == 3, let kind = value.element[0]?.pointee,
            let channel = value.element[1]?.pointee, let payload = value.element[2]?.pointee
        else {
            if value.type == REDIS_REPLY_ERROR { refusal = "Redis refused: \(RedisReply(reply))" }
            return
        }
        let channelBytes = Self.buffer(channel)
        switch kind.len {
        case 7:  // message
            if channelBytes.elementsEqual(probeChannel.utf8) {
                oldestProbeSentAt = nil
                backoff.reset()
                return setDelivering(true)
            }
            owner.linkReceived(
                identity.index, channel: channelBytes.span, message: Self.buffer(payload).span)
        case 9:  // subscribe
            guard !channelBytes.elementsEqual(probeChannel.utf8) else { return probe(now: now) }
            owner.linkSubscribed(identity.index, channel: String(decoding: channelBytes, as: UTF8.self))
        default: break  // unsubscribe needs no answer
        }
    }

    private static func buffer(_ reply: redisReply) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(
            start: UnsafeRawPointer(reply.str)?.assumingMemoryBound(to: UInt8.self), count: Int(reply.len))
    }
}
