// Keeps the feed's servers and the home of each topic in step with the topology. Only in a cluster does
// anything change: nodes come and go, and slots move. A topic that moves is subscribed at its new server, and
// its state is compared, as after a lost link.

import Fanout
import LiveProtocol
import RedisLink
import Telemetry

extension AuctionFeed {
    /// Takes over a changed map, and has it read again while a server is down.
    func followTopology() {
        if map.isCluster, now >= nextMapRefresh, servers.values.contains(where: { !$0.isUp }) {
            nextMapRefresh = now + Limits.mapRefreshMilliseconds
            topology.refresh()
        }
        if !redirects.isEmpty {
            topology.follow(redirects)
            redirects = []
        }
        for server in servers.values { subscribeAgain(server) }
        guard topology.version != map.version else { return }
        takeMap(topology.map)
        var moved: [ObjectIdentifier: (home: FeedServer, channels: [FeedChannel])] = [:]
        for channel in channelsByTopic.values {
            let home = home(of: channel.topic)
            guard home !== channel.home else { continue }
            move(channel, to: home)
            moved[ObjectIdentifier(home), default: (home, [])].channels.append(channel)
        }
        for (home, channels) in moved.values { home.subscribe(channels) }
    }

    /// The server that holds a topic.
    func home(of topic: Topic) -> FeedServer {
        map.server(of: topic.redisOwner).flatMap { servers[$0] } ?? unplaced
    }

    private func move(_ channel: FeedChannel, to home: FeedServer) {
        counters.channelMoves.add()
        let old = channel.home
        old.link?.unsubscribe(channel.topic.redisChannel)
        // The silence counts from its beginning at the old server, so watchers are told of it in time.
        if !home.isUp { home.news.expect(since: old.link?.provedAt) }
        channel.move(to: home)
        loseLink(channel)
        let isDelivering = home.news.isDelivering
        perform(channel) { $0.deliveryChanged(isDelivering, &$1) }
    }

    // MARK: What nodes say

    func linkUnsubscribed(_ link: Int, channel name: String) {
        topology.refresh()
        guard let channel = channel(name, at: link) else { return }
        loseLink(channel)
        // The node answers with a redirect to the new one.
        channel.home.subscribe([channel])
    }

    func linkDeferred(_ link: Int, channels names: [String], _ redirect: RedisRedirect?) {
        if let redirect { redirects.append((redirect, link)) } else { topology.refresh() }
        for name in names {
            guard let channel = channel(name, at: link) else { continue }
            if channel.deferredSince == nil { channel.deferredSince = now }
            loseLink(channel)
            // If the map does not change, or wrongly, this tries again.
            channel.home.resubscriptions.append((now + Limits.resubscribeMilliseconds, FeedRead(channel)))
        }
    }

    /// The channel of this name, if `link` is its home.
    private func channel(_ name: String, at link: Int) -> FeedChannel? {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic],
            channel.home.number == link
        else { return nil }
        return channel
    }

    private func subscribeAgain(_ server: FeedServer) {
        while let (at, read) = server.resubscriptions.first, at <= now {
            server.resubscriptions.removeFirst()
            guard isOpen(read.channel), read.isCurrent, read.channel.machine.isSubscribing else { continue }
            announceDeferral(read.channel)
            server.subscribe([read.channel])
        }
    }

    /// Tells watchers that their auction is not delivered when nodes have deferred its subscription for too
    /// long. The server's own state does not show this, because it still delivers other topics.
    private func announceDeferral(_ channel: FeedChannel) {
        guard let since = channel.deferredSince, now - since > Limits.feedSilenceMilliseconds else { return }
        let isDelivering = channel.home.news.isDelivering
        perform(channel) { machine, actions in
            machine.deliveryChanged(false, &actions)
            // Watchers hear this only when the channel is subscribed again and level.
            machine.deliveryChanged(isDelivering, &actions)
        }
    }

    // MARK: Commands

    /// Sends a command about one topic to its server. While the slot moves, follows a redirect to
    /// the node that already has the key.
    func ask(_ channel: FeedChannel, _ command: [String], _ completion: @escaping RedisLink.Completion) {
        let home = channel.home
        home.command(command) { [unowned self] answer in
            guard case .refused(let refusal) = answer, let redirect = RedisRedirect(refusal) else {
                return completion(answer)
            }
            guard redirect.isAsk else {
                redirects.append((redirect, home.number))
                return completion(answer)
            }
            let number = topology.follow(redirect, from: home.number)
            guard let target = servers[number]?.link, target.isUp else { return completion(answer) }
            target.askedCommand(command) { answer in
                // The loss of this other node is not the loss of the topic's own.
                if case .lost = answer { return completion(.refused(refusal)) }
                completion(answer)
            }
        }
    }
}
