// Tells watchers whether their auction's Redis delivers (`FEED`). A change of a link reaches its auctions in
// stretches, one per turn. Each auction's machine decides what its watchers are told, and when.

import Fanout
import LiveProtocol
import RedisLink

/// What the auctions of one server are told about it.
struct FeedNews {
    /// When the gateway began to wait for the link's first probe; `nil` before the first look at the link.
    private var startedAt: Int64?
    /// What was said last. It stays `true` through an interruption that is too short to mention.
    private(set) var isDelivering = true
    /// The number of the first channel that has not heard the news yet; `nil` when all have.
    private var position: Int?

    var isSpreading: Bool { position != nil }

    /// Takes the state of the link in.
    mutating func update(isUp: Bool, isRelayMissing: Bool, provedAt: Int64?, now: Int64) {
        let since = startedAt ?? now
        startedAt = since
        let isSilent = now - (provedAt ?? since) > Limits.feedSilenceMilliseconds
        let delivers = isRelayMissing || isSilent ? false : isUp ? true : isDelivering
        guard delivers != isDelivering else { return }
        isDelivering = delivers
        position = 0
    }

    /// The server takes over for another one, which was proved last at `provedAt`.
    mutating func expect(since provedAt: Int64?) {
        guard let provedAt else { return }
        startedAt = min(startedAt ?? provedAt, provedAt)
    }

    /// The numbers of the channels that hear the news next, at most `count` of all `channels`.
    mutating func nextStretch(of count: Int, among channels: Int) -> Range<Int> {
        guard let start = position else { return 0..<0 }
        let end = min(start + count, channels)
        position = end < channels ? end : nil
        return min(start, end)..<end
    }
}

extension AuctionFeed {
    /// Looks at the links, and tells the next auctions of those that have changed.
    func spreadNews() {
        for server in servers.values { spreadNews(of: server) }
        spreadNews(of: unplaced)
    }

    private func spreadNews(of server: FeedServer) {
        server.news.update(
            isUp: server.isUp, isRelayMissing: server.link?.isRelayMissing ?? false,
            provedAt: server.link?.provedAt, now: now)
        let isDelivering = server.news.isDelivering
        for number in server.news.nextStretch(of: Limits.feedNewsPerTurn, among: channels.count) {
            guard let channel = channels[number], channel.home === server else { continue }
            perform(channel) { $0.deliveryChanged(isDelivering, &$1) }
        }
    }
}
