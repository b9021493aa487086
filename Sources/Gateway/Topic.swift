// What a watcher can watch.

import RedisLink

/// An auction, or the notifications of one user.
struct Topic: Hashable, Sendable {
    enum Kind: Sendable {
        /// Has a state, a sequence and a log.
        case auction
        /// Has none of these: what is published is passed on.
        case user
    }

    let kind: Kind
    /// The auction's or the user's id.
    let id: String

    static func auction(_ id: String) -> Topic { Topic(kind: .auction, id: id) }
    static func user(_ id: String) -> Topic { Topic(kind: .user, id: id) }

    private init(kind: Kind, id: String) {
        self.kind = kind
        self.id = id
    }

    /// The topic of a Redis channel; `nil` when it is none of ours.
    init?(redisChannel name: String) {
        if name.hasPrefix(RedisKeys.channelPrefix) {
            self = .auction(String(name.dropFirst(RedisKeys.channelPrefix.count)))
        } else if name.hasPrefix(RedisKeys.userChannelPrefix) {
            self = .user(String(name.dropFirst(RedisKeys.userChannelPrefix.count)))
        } else {
            return nil
        }
    }

    var redisChannel: String {
        switch kind {
        case .auction: RedisKeys.channel(id)
        case .user: RedisKeys.userChannel(id)
        }
    }
}
