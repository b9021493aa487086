// Topics as channels of Redis pub/sub.

import LiveProtocol
import RedisLink

extension Topic {
    /// The topic of a Redis channel; `nil` when the channel is not one of ours.
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

    var redisOwner: RedisOwner {
        switch kind {
        case .auction: .auction(id)
        case .user: .user(id)
        }
    }

    var redisChannel: String { redisOwner.channel }
}
