// The commands of a subscribing connection that Redis has not answered yet. Redis confirms each channel of a
// SUBSCRIBE by a message of its own, but refuses the whole command with a single error that names no channel.
// The ledger finds the channel that is to blame, by halving. Pure; owned by a ``RedisLink``.

import DequeModule

package struct SubscriptionLedger {
    /// What an error reply means.
    package enum Verdict: Equatable {
        /// A command of the greeting was refused.
        case greeting
        /// One of several channels is to blame: subscribe to each of these lists anew.
        case retry([[String]])
        /// This channel is refused.
        case channel(String)
        /// These channels live on another node.
        case moved([String])
        /// A channel that was given up is not on this node any more.
        case unsubscribed
        /// No command was waiting that the error could answer.
        case unexpected
    }

    private enum Command {
        case greeting
        case subscribe([String], unconfirmed: Int)
        case unsubscribe(String)
    }

    private var commands: Deque<Command> = []

    package init() {}

    package mutating func sentGreeting() {
        commands.append(.greeting)
    }

    /// - Parameter channels: the channels of one SUBSCRIBE, at least one.
    package mutating func sentSubscribe(_ channels: [String]) {
        commands.append(.subscribe(channels, unconfirmed: channels.count))
    }

    /// One UNSUBSCRIBE of one channel.
    package mutating func sentUnsubscribe(_ channel: String) {
        commands.append(.unsubscribe(channel))
    }

    /// Notes a reply that confirms one channel of a SUBSCRIBE, or one command of the greeting.
    package mutating func confirmed() {
        guard case .subscribe(let channels, let unconfirmed)? = commands.first, unconfirmed > 1 else {
            _ = commands.popFirst()
            return
        }
        commands[0] = .subscribe(channels, unconfirmed: unconfirmed - 1)
    }

    /// Notes that `channel` is not subscribed any more. False when nobody asked for that: the server has
    /// ended the subscription by itself, which must not be taken for the answer to another command.
    package mutating func unsubscribed(_ channel: String) -> Bool {
        guard case .unsubscribe(channel)? = commands.first else { return false }
        commands.removeFirst()
        return true
    }

    /// Notes an error reply.
    /// - Parameter hasMoved: true when the error says that the channels live on another node.
    package mutating func refused(hasMoved: Bool = false) -> Verdict {
        switch commands.popFirst() {
        case .greeting: return .greeting
        case .subscribe(let channels, _) where hasMoved: return .moved(channels)
        case .subscribe(let channels, _):
            guard channels.count > 1 else { return .channel(channels[0]) }
            let middle = channels.count / 2
            return .retry([Array(channels[..<middle]), Array(channels[middle...])])
        // The server's own end of a subscription may have been taken for the answer.
        case .unsubscribe where hasMoved, nil where hasMoved: return .unsubscribed
        case .unsubscribe, nil: return .unexpected
        }
    }
}
