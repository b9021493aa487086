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

    // By bytes, as Redis has it: to Swift, `é` in one character and in two are the same text.
    static func == (one: Topic, other: Topic) -> Bool {
        one.kind == other.kind && one.id.utf8.elementsEqual(other.id.utf8)
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        for byte in id.utf8 { hasher.combine(byte) }
    }

    /// The topic of a Redis channel; `nil` when it is none of ours.
    init?(redisChannel name: String) {
        func id(after prefix: String) -> String? {
            guard name.utf8.starts(with: prefix.utf8) else { return nil }
            return String(Substring(name.utf8.dropFirst(prefix.utf8.count)))
        }
        if let auction = id(after: RedisKeys.channelPrefix) {
            self = .auction(auction)
        } else if let user = id(after: RedisKeys.userChannelPrefix) {
            self = .user(user)
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
