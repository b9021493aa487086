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
        /// No command was waiting that the error could answer.
        case unexpected
    }

    private enum Command {
        case greeting
        case subscribe([String], unconfirmed: Int)
        case unsubscribe
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
    package mutating func sentUnsubscribe() {
        commands.append(.unsubscribe)
    }

    /// Notes a reply that confirms one channel, or one command of the greeting.
    package mutating func confirmed() {
        guard case .subscribe(let channels, let unconfirmed)? = commands.first, unconfirmed > 1 else {
            _ = commands.popFirst()
            return
        }
        commands[0] = .subscribe(channels, unconfirmed: unconfirmed - 1)
    }

    /// Notes an error reply.
    package mutating func refused() -> Verdict {
        switch commands.popFirst() {
        case .greeting: return .greeting
        case .subscribe(let channels, _):
            guard channels.count > 1 else { return .channel(channels[0]) }
            let middle = channels.count / 2
            return .retry([Array(channels[..<middle]), Array(channels[middle...])])
        case .unsubscribe, nil: return .unexpected
        }
    }
}
