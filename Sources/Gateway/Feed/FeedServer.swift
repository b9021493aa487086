// One Redis server as the feed holds it: the link, the reads that wait for it, and what watchers are told
// about it. Topics whose server is not known belong to a server without a link.

import DequeModule
import Fanout
import RedisLink

final class FeedServer {
    /// The server's number in the topology; -1 for the place of topics whose server is not known.
    let number: Int
    /// `nil` where the server is not known.
    let link: RedisLink?
    var reads = FeedReads()
    var news = FeedNews()
    var viewers = ViewerReports()
    /// Channels that a cluster's node refused for the moment, in order of when they are tried again.
    var resubscriptions: Deque<(at: Int64, read: FeedRead)> = []
    /// True after the loss was logged, until the return is logged.
    var isLossLogged = false
    /// True after the log said that Redis does not let this gateway count viewers.
    var isViewersRefusalLogged = false

    init(number: Int, link: RedisLink?) {
        self.number = number
        self.link = link
    }

    var label: String { link?.endpoint.label ?? "unknown" }
    var isUp: Bool { link?.isUp ?? false }
    /// True for a node of a cluster, where one command may name keys of one slot only.
    var isClusterNode: Bool { link?.endpoint.isClusterNode ?? true }

    func subscribe(_ channels: [FeedChannel]) {
        link?.subscribe(channels.map(\.topic.redisChannel))
    }

    func command(_ arguments: [String], _ completion: @escaping RedisLink.Completion) {
        guard let link else { return completion(.lost) }
        link.command(arguments, completion)
    }
}

/// Something under way for a channel at its server. It is void when the channel has lost its link or moved
/// meanwhile.
struct FeedRead {
    let channel: FeedChannel
    private let losses: Int

    init(_ channel: FeedChannel) {
        self.channel = channel
        losses = channel.losses
    }

    var isCurrent: Bool { losses == channel.losses }
}
