// The gateway's side of Redis: which topics are subscribed, and which loops are told what. The feed carries
// out what the machine of each topic decides. Loop 0 carries the feed and calls it on its own thread only.
// The feed checks and encodes an event once, and each loop gets a reference.

import AuctionEvents
import DequeModule
import Fanout
import LiveProtocol
import Logging
import Reactor
import RedisLink
import Telemetry

final class AuctionFeed: RedisLinkOwner {
    let shared: Shared
    let logger: Logger
    /// A random id that tells this run of the gateway from all others.
    let gatewayID: String
    let topology: RedisTopology
    /// The topology as the feed has taken it over.
    private(set) var map: RedisMap
    /// By number.
    private(set) var servers: [Int: FeedServer] = [:]
    /// The home of topics whose server is not known.
    let unplaced = FeedServer(number: -1, link: nil)
    var nextMapRefresh: Int64 = 0
    /// Redirects that a cluster's nodes sent in this turn, each with the number of the server that sent it.
    /// ``followTopology()`` takes all of them at once.
    var redirects: [(redirect: RedisRedirect, origin: Int)] = []

    private(set) var channels: [FeedChannel?] = []
    private var freeNumbers: [UInt32] = []
    private(set) var channelsByTopic: [Topic: FeedChannel] = [:]
    private(set) var now: Int64 = 0
    /// When the events being read arrived, for the measure of how long they take.
    private var nowMicroseconds: Int64 = 0

    /// Channels with a gap, by number.
    private(set) var repairing: [UInt32: FeedChannel] = [:]
    /// Channels with a loop whose mailbox overflowed, by number.
    private var overflowed: [UInt32: FeedChannel] = [:]
    /// Channels whose ring is widened, in the order in which the rings are narrowed again.
    var widened: Deque<(until: Int64, channel: FeedChannel)> = []
    /// Channels without watchers, in the order in which they are given up.
    private var retained: Deque<(until: Int64, channel: FeedChannel)> = []
    /// What the rings of all channels may hold together.
    var history: HistoryBudget

    /// False while another process counts the viewers of this one.
    var countsViewers = true
    /// Who waits until Redis has forgotten this process's numbers.
    var viewersForgotten: Reply<Void>?

    /// Topics whose refusal by Redis was logged, until Redis accepts them again.
    private var loggedRefusals: Set<Topic> = []

    private var nextProbeNote: Int64 = 0
    /// Topics that are to be read before anybody watches them, and who waits for that.
    private var preparation: (topics: [Topic], reply: Reply<Void>)?

    /// Servers that are not in the map any more and are to be closed.
    private var leaving: [FeedServer] = []
    private var inbox: [FeedMessage] = []
    /// Reused from one event to the next.
    private var actions: [FeedMachine.Action] = []

    init(shared: Shared, logger: Logger) {
        self.shared = shared
        self.logger = logger
        history = HistoryBudget(limit: shared.configuration.historyBytes)
        var generator = SystemRandomNumberGenerator()
        gatewayID = String(UInt64.random(in: .min ... .max, using: &generator), radix: 36)
        topology = RedisTopology(shared.configuration.redisURLs)
        map = topology.map
        let mailbox = shared.feedMailbox
        // A full mailbox is read soon anyway.
        topology.observe { _ = mailbox.post(.topologyChanged) }
        takeMap(map)
    }

    /// Takes over a map's servers.
    func takeMap(_ map: RedisMap) {
        self.map = map
        for (number, server) in servers where server.link?.endpoint !== map.servers[number] {
            leaving.append(server)
            servers[number] = nil
        }
        defer { counters.links.set(servers.count) }
        for (number, endpoint) in map.servers where servers[number] == nil {
            let token = OwnDescriptor.firstLink + UInt64(2 * number)
            let link = RedisLink(
                endpoint: endpoint,
                identity: .init(
                    index: number, subscriberToken: token, commandToken: token + 1,
                    probeName: "\(gatewayID).\(number)"), owner: self)
            servers[number] = FeedServer(number: number, link: link)
        }
    }

    var counters: FeedCounters { shared.feedCounters }

    /// True while something needs attention sooner than a tick: a link that connects, a gap, a loop that
    /// missed events.
    var isBusy: Bool {
        !repairing.isEmpty || !overflowed.isEmpty || preparation != nil || unplaced.news.isSpreading
            || servers.values.contains {
                !$0.isUp || $0.reads.hasRetries || $0.news.isSpreading || !$0.resubscriptions.isEmpty
            }
    }

    // MARK: Turns

    // SAFETY: `buffer` is the loop's receive buffer, lent for the length of the call on the loop's own
    // thread.
    func handle(
        _ event: Poller.Event, now: Int64, buffer: UnsafeMutableRawBufferPointer, poller: borrowing Poller
    ) {
        self.now = now
        nowMicroseconds = Clock.monotonicMicroseconds()
        let index = Int(event.token - OwnDescriptor.firstLink) / 2
        servers[index]?.link?.handle(event, now: now, buffer: buffer, poller: poller)
    }

    /// Does what is due, after the loop's events and before its walks.
    func turn(now: Int64, poller: borrowing Poller) {
        self.now = now
        followTopology()
        for server in leaving { server.link?.close(poller: poller) }
        leaving = []
        spreadNews()
        readMessages()
        continuePreparation()
        continueRepairs()
        readStates()
        readHistories()
        catchUpLoops()
        endRetaining()
        narrowRings()
        reportViewers()
        noteProbes()
        for server in servers.values {
            server.link?.tick(now: now, poller: poller)
            server.link?.flush(now: now, poller: poller)
        }
    }

    func readMessages() {
        shared.feedMailbox.take(into: &inbox)
        for message in inbox {
            switch message {
            case .attach(let topic, let loop, let needs): attach(topic, loop: loop, needs: needs)
            case .detach(let topic, let loop): detach(topic, loop: loop)
            case .viewers(let counts, let loop): takeViewers(counts, loop: loop)
            case .listTopics(let reply):
                reply.give(channelsByTopic.values.filter { $0.machine.isWatched }.map(\.topic))
            case .prepare(let topics, let reply): prepare(topics, reply)
            case .stopCountingViewers(let reply): stopCountingViewers(reply)
            case .countViewers: countsViewers = true
            case .inspect(let id, let question): post(.inspected(id, inspect(question)), to: 0, .always)
            // The message wakes the loop, which looks at the topology in each turn.
            case .topologyChanged: break
            }
        }
        inbox.removeAll(keepingCapacity: inbox.count <= 1_024)
    }

    // MARK: Actions

    /// Gives an event to a channel's machine and carries out what it decides.
    func perform(
        _ channel: FeedChannel, _ event: (inout FeedMachine, inout [FeedMachine.Action]) -> Void
    ) {
        // Carrying out an action never gives an event to a machine, so this list is not in use.
        assert(isOpen(channel), "\(channel.topic.id) was given up")
        event(&channel.machine, &actions)
        for action in actions { perform(action, of: channel) }
        actions.removeAll(keepingCapacity: actions.count <= 1_024)
        if channel.accountedBytes != channel.machine.historyBytes { account(channel) }
        guard channel.isInRepairs != channel.machine.isRepairing else { return }
        channel.isInRepairs = channel.machine.isRepairing
        repairing[channel.number] = channel.isInRepairs ? channel : nil
    }

    private func perform(_ action: FeedMachine.Action, of channel: FeedChannel) {
        switch action {
        case .deliver(let event, let loops): distribute(event, of: channel, to: loops)
        case .attach(let attachment, let loops):
            // Attachments are bounded by attaches, which are bounded by connections.
            loops.forEach { post(.attached(attachment), to: $0, .always) }
        case .jump(let snapshot, let loops):
            loops.forEach { post(.jump(channel: channel.number, snapshot), to: $0, .always) }
        case .announce(let isLive, let loops): announce(isLive: isLive, on: channel, to: loops)
        case .readState(let isRetry): queueStateRead(channel, isRetry: isRetry)
        case .readLog(let sequence): readLog(channel, after: sequence)
        case .readHistory: channel.home.reads.histories.append(FeedRead(channel))
        case .count(let occurrence):
            switch occurrence {
            case .duplicate: counters.duplicates.add()
            case .gapOpened(let cause): counters.gaps.add(cause)
            case .gapFilled(let milliseconds):
                counters.gapsFilled.add()
                counters.repairs.add(microseconds: milliseconds * 1_000)
            case .jumped(let milliseconds):
                counters.jumps.add()
                counters.repairs.add(microseconds: milliseconds * 1_000)
            }
        }
    }

    // MARK: Channels

    private func attach(_ topic: Topic, loop: Int, needs: AttachmentNeeds) {
        guard let channel = channelsByTopic[topic] ?? open(topic) else {
            post(.refused(topic, .tooManyAuctions), to: loop, .always)
            return
        }
        channel.retainedUntil = nil
        perform(channel) { $0.attach(loop: loop, needs: needs, &$1) }
    }

    private func detach(_ topic: Topic, loop: Int) {
        guard let channel = channelsByTopic[topic] else { return }
        channel.machine.detach(loop: loop)
        setViewers(0, on: channel, loop: loop)
        guard !channel.machine.isWatched else { return }
        guard channel.machine.hasHadSomething else { return close(channel) }
        retain(channel)
    }

    /// Keeps a channel without watchers for a while.
    private func retain(_ channel: FeedChannel) {
        let until = now + Limits.retainMilliseconds
        channel.retainedUntil = until
        retained.append((until, channel))
    }

    /// Subscribes to topics that nobody watches yet, for watchers that another process is about to hand over.
    private func prepare(_ topics: [Topic], _ reply: Reply<Void>) {
        for topic in topics where channelsByTopic[topic] == nil {
            guard let channel = open(topic) else { break }
            retain(channel)
        }
        preparation = (topics, reply)
    }

    /// Tells the one who waits when a Redis delivers and every topic has been read.
    func continuePreparation() {
        guard var topics = preparation?.topics, counters.linksDelivering.current > 0 else { return }
        // A topic over the limit of auctions, or one that Redis refuses, has no channel to wait for.
        while let topic = topics.last, channelsByTopic[topic]?.machine.isInStep ?? true {
            topics.removeLast()
        }
        preparation?.topics = topics
        guard topics.isEmpty else { return }
        preparation?.reply.give(())
        preparation = nil
    }

    private func open(_ topic: Topic) -> FeedChannel? {
        guard channelsByTopic.count < shared.configuration.maxAuctions else { return nil }
        let number = freeNumbers.popLast() ?? UInt32(channels.count)
        let home = home(of: topic)
        let channel = FeedChannel(
            topic: topic, number: number, home: home, historyEvents: shared.configuration.historyEvents)
        if Int(number) == channels.count { channels.append(channel) } else { channels[Int(number)] = channel }
        channelsByTopic[topic] = channel
        counters.channels.set(channelsByTopic.count)
        home.subscribe([channel])
        return channel
    }

    /// True until the channel is given up. That may happen while a read of it is under way.
    func isOpen(_ channel: FeedChannel) -> Bool {
        channels[Int(channel.number)] === channel
    }

    private func endRetaining() {
        while let (until, channel) = retained.first, now >= until {
            retained.removeFirst()
            // It may have been watched and left again since.
            if isOpen(channel), channel.retainedUntil == until { close(channel) }
        }
    }

    private func close(_ channel: FeedChannel) {
        if channel.reportedViewers > 0 { removeReport(of: channel) }
        channel.home.link?.unsubscribe(channel.topic.redisChannel)
        repairing.removeValue(forKey: channel.number)
        overflowed.removeValue(forKey: channel.number)
        history.set(channel.number, bytes: 0)
        counters.historyBytes.set(history.total)
        channelsByTopic.removeValue(forKey: channel.topic)
        channels[Int(channel.number)] = nil
        freeNumbers.append(channel.number)
        counters.channels.set(channelsByTopic.count)
    }

    // MARK: To the loops

    @discardableResult
    private func post(
        _ message: LoopMessage, to loop: Int,
        _ admission: Mailbox<LoopMessage>.Admission = .withinCapacity
    ) -> Bool {
        // Loop 0 carries the feed and reads its mailbox later in this same turn.
        shared.loops[loop].mailbox.post(message, admission, wakes: loop != 0)
    }

    /// Hands an event that is next in its auction's order to the loops that watch it.
    private func distribute(_ event: EncodedEvent, of channel: FeedChannel, to loops: LoopSet) {
        counters.events.add()
        guard event.sequence != 0 else { return distributeUnnumbered(event, of: channel, to: loops) }
        keepHistoryWithinLimit(after: channel)
        // A loop that missed an event must not get the next one.
        loops.subtracting(channel.machine.overflowed).forEach { loop in
            guard !post(.event(channel: channel.number, event), to: loop) else { return }
            overflow(loop, of: channel)
        }
    }

    /// Tells loops whether an auction's Redis delivers. A loop that has missed events learns it with these.
    private func announce(isLive: Bool, on channel: FeedChannel, to loops: LoopSet) {
        loops.subtracting(channel.machine.overflowed).forEach { loop in
            guard !post(.feed(channel: channel.number, isLive: isLive), to: loop) else { return }
            overflow(loop, of: channel)
        }
    }

    private func overflow(_ loop: Int, of channel: FeedChannel) {
        counters.mailboxOverflows.add()
        channel.machine.overflow(loop: loop)
        overflowed[channel.number] = channel
    }

    /// The ring holds no events without a sequence number, so a loop cannot catch up on one. A full mailbox
    /// has a reserve for such events. When the reserve is used up too, the loop sends the topic's watchers
    /// away, so that they know.
    private func distributeUnnumbered(_ event: EncodedEvent, of channel: FeedChannel, to loops: LoopSet) {
        let isDroppable = event.treatment == .droppable
        loops.forEach { loop in
            let message = LoopMessage.event(channel: channel.number, event)
            let isTaken = post(message, to: loop, isDroppable ? .withinCapacity : .withinReserve)
            guard !isTaken, !isDroppable else { return }
            counters.mailboxOverflows.add()
            channel.machine.drop(loop: loop)
            post(.refused(channel.topic, .overrun), to: loop, .always)
        }
    }

    /// Sends an auction's watchers an event that has no place in the auction's order.
    func announce(_ event: EncodedEvent, on channel: FeedChannel) {
        distribute(event, of: channel, to: channel.machine.attached)
    }

    /// Sends overflowed loops what they missed, as soon as their mailbox has room.
    func catchUpLoops() {
        for channel in overflowed.values {
            var ready: LoopSet = []
            channel.machine.overflowed.forEach { loop in
                guard shared.loops[loop].mailbox.count < Limits.mailboxMessages / 2 else { return }
                ready.insert(LoopSet(loop: loop))
            }
            perform(channel) { $0.catchUp(ready, &$1) }
            if channel.machine.overflowed.isEmpty { overflowed.removeValue(forKey: channel.number) }
        }
    }

    // MARK: RedisLinkOwner

    func linkIsUp(_ link: Int) {
        guard let server = servers[link] else { return }
        countLinks()
        // While the heartbeat is missing, a new connection does not prove that bids arrive at this Redis.
        if server.link?.isRelayMissing == false { logReturn(server) }
        server.subscribe(channelsByTopic.values.filter { $0.home === server })
    }

    func linkIsDown(_ link: Int, reason: String) {
        // Something may have moved.
        topology.refresh()
        countLinks()
        guard let server = servers[link] else { return }
        // Logs the first cause once, and not every attempt that fails.
        if !server.isLossLogged {
            server.isLossLogged = true
            counters.linkLosses.add()
            logger.error(
                "Redis link is down; retrying",
                metadata: ["redis": "\(server.label)", "reason": "\(reason)"])
        }
        server.reads = FeedReads()
        server.viewers = ViewerReports()
        for channel in channelsByTopic.values where channel.home === server {
            loseLink(channel)
        }
    }

    /// Makes everything under way for the channel void, and tells the machine that it has lost its link.
    func loseLink(_ channel: FeedChannel) {
        channel.loseReads()
        perform(channel) { $0.linkLost(&$1) }
    }

    /// Tells scrapes how old the oldest proof of a server is.
    private func noteProbes() {
        guard now >= nextProbeNote else { return }
        nextProbeNote = now + Limits.probeNoteMilliseconds
        let proofs = servers.values.compactMap { $0.link?.provedAt }
        counters.oldestProof.set(proofs.count == servers.count ? Int(proofs.min() ?? 0) : 0)
    }

    private func countLinks() {
        counters.links.set(servers.count)
        counters.linksDelivering.set(servers.values.count { $0.isUp })
    }

    private func logReturn(_ server: FeedServer) {
        server.isLossLogged = false
        logger.info("Redis link is up", metadata: ["redis": "\(server.label)"])
    }

    func linkHearsRelay(_ link: Int) {
        if let server = servers[link], server.isLossLogged, server.isUp { logReturn(server) }
    }

    func linkCannotHearRelay(_ link: Int, _ refusal: RedisRefusal) {
        logger.warning(
            "Redis denies the heartbeat channel; unless it is allowed, only probes can detect a wrong Redis",
            metadata: [
                "redis": "\(servers[link]?.label ?? "")", "channel": "\(RedisKeys.relay)",
                "reason": "\(refusal)",
            ])
    }

    func linkRefused(_ link: Int, channel name: String, _ refusal: RedisRefusal) {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic] else { return }
        refuse(channel, refusal)
    }

    /// Handles a refusal by Redis that concerns this topic alone. Its watchers are told so, and no other
    /// topic is affected.
    func refuse(_ channel: FeedChannel, _ refusal: RedisRefusal) {
        counters.refusedTopics.add()
        if loggedRefusals.count < Limits.loggedRefusals, loggedRefusals.insert(channel.topic).inserted {
            logger.error(
                "Redis refuses a channel or its keys; closing its watchers with 1013",
                metadata: [
                    "redis": "\(channel.home.label)",
                    "channel": "\(channel.topic.redisChannel)", "reason": "\(refusal)",
                ])
        }
        channel.machine.watchers.forEach { post(.refused(channel.topic, .unreadable), to: $0, .always) }
        close(channel)
    }

    /// Notes that Redis has served a topic, so that its next refusal is logged again.
    func noteServed(_ channel: FeedChannel) {
        if !loggedRefusals.isEmpty { loggedRefusals.remove(channel.topic) }
    }

    func linkSubscribed(_ link: Int, channel name: String) {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic] else {
            // Its last watcher left while a refused batch was being sent anew.
            servers[link]?.link?.unsubscribe(name)
            return
        }
        // A cluster's node may confirm what another one serves by now.
        guard channel.home.number == link else { return }
        channel.deferredSince = nil
        if topic.kind == .user { noteServed(channel) }
        perform(channel) { $0.subscribed(&$1) }
    }

    func linkReceived(_ link: Int, channel name: Span<UInt8>, message: Span<UInt8>) {
        let text = name.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        guard let topic = Topic(redisChannel: text), let channel = channelsByTopic[topic] else { return }
        let isAuction = topic.kind == .auction
        switch EventEnvelope.scan(message, auctionID: isAuction ? topic.id : nil) {
        case .failure(let reason): counters.rejected.add(reason)
        case .success(let envelope):
            if let published = envelope.publishedAt {
                counters.receipts.add(
                    microseconds: (Clock.wallMilliseconds() - published.milliseconds) * 1_000)
            }
            let event = EventEncoder.event(
                message, envelope, hasSequence: isAuction, receivedAt: nowMicroseconds)
            perform(channel) { $0.received(event, now: now, &$1) }
        }
    }
}
