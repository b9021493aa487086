// What an operator is shown of the feed.

import Fanout
import LiveProtocol
import RedisLink

extension AuctionFeed {
    /// The part of an answer that the feed gives.
    func inspect(_ question: InspectionQuestion) -> InspectionPart {
        switch question {
        case .auction(let id): .feed(channelsByTopic[.auction(id)].map(view))
        case .redis, .slowestWatchers: .servers(servers.values.sorted { $0.number < $1.number }.map(view))
        }
    }

    private func view(_ channel: FeedChannel) -> FeedView {
        FeedView(
            server: channel.home.label, isSubscribed: !channel.machine.isSubscribing,
            isLive: channel.machine.isAnnouncedLive, sequence: channel.machine.last,
            stateSequence: channel.machine.snapshot?.sequence,
            gapMilliseconds: channel.machine.repairBegan.map { now - $0 },
            heldEvents: channel.machine.heldEvents, historyEvents: channel.machine.historyCount,
            historyBytes: channel.machine.historyBytes)
    }

    private func view(_ server: FeedServer) -> ServerView {
        ServerView(
            label: server.label, isUp: server.isUp,
            probeAgeMilliseconds: server.link?.provedAt.map { now - $0 },
            isHeartbeatMissing: server.link?.isRelayMissing ?? false,
            topics: channelsByTopic.values.count { $0.home === server },
            readsUnderWay: server.reads.underWay, readsWaiting: server.reads.waiting)
    }
}
