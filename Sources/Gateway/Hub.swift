// The gateway's side of Redis: which auctions are subscribed, what has arrived of each, and which loops are
// told. Carried by loop 0 and called on its thread only. An event is checked and encoded here once; the loops
// get a reference each.
// Hub.swift: links, attaching, events. HubRepair.swift: states, logs, holes. HubViewers.swift: numbers of
// viewers.

import AuctionEvents
import DequeModule
import Fanout
import Logging
import Reactor
import RedisLink
import Telemetry

final class Hub: RedisLinkOwner {
    let shared: Shared
    let logger: Logger
    /// This run's name among the gateways.
    let gatewayID: String
    var links: [RedisLink] = []

    var channels: [HubChannel?] = []
    private var freeNumbers: [UInt32] = []
    var channelsByTopic: [Topic: HubChannel] = [:]
    var now: Int64 = 0

    /// Channels whose state shall be read, by link.
    var stateQueues: [Deque<HubChannel>]
    var stateReadsInFlight: [Int]
    /// Reads that Redis refused, in order of when they are due again.
    var stateRetries: [(at: Int64, link: Int, channels: [HubChannel])] = []
    var logReadsInFlight: [Int]
    /// Channels with a hole, by number.
    var repairing: [UInt32: HubChannel] = [:]
    /// Channels whose ring is widened, in the order in which that ends.
    var widened: Deque<(until: Int64, channel: HubChannel)> = []
    /// Channels without watchers, in the order in which they are given up.
    private var lingering: Deque<(until: Int64, channel: HubChannel)> = []
    /// Channels whose log shall be read for a resume.
    var historyQueue: Deque<HubChannel> = []
    private var behind: [UInt32: HubChannel] = [:]
    private var lastLoss: [String?]
    var viewers: [ViewerReports]
    private var inbox: [HubMail] = []

    init(shared: Shared, logger: Logger) {
        self.shared = shared
        self.logger = logger
        let urls = shared.configuration.redisURLs
        stateQueues = urls.map { _ in [] }
        stateReadsInFlight = urls.map { _ in 0 }
        logReadsInFlight = urls.map { _ in 0 }
        lastLoss = urls.map { _ in nil }
        viewers = urls.map { _ in ViewerReports() }
        var generator = SystemRandomNumberGenerator()
        gatewayID = String(UInt64.random(in: .min ... .max, using: &generator), radix: 36)
        links = urls.enumerated().map { index, url in
            let token = Worker.OwnDescriptor.firstLink + UInt64(2 * index)
            return RedisLink(
                url: url,
                identity: .init(index: index, subscriberToken: token, commandToken: token + 1),
                probeChannel: "gavelcast:probe:\(gatewayID)", owner: self)
        }
    }

    var counters: HubCounters { shared.hubCounters }

    /// Whether something needs attention sooner than a tick: a link that connects, a hole, a loop that is
    /// behind.
    var isBusy: Bool {
        !repairing.isEmpty || !behind.isEmpty || !stateRetries.isEmpty || links.contains { !$0.isUp }
    }

    // MARK: Turns

    // SAFETY: `buffer` is the loop's receive buffer, lent for the length of the call on the loop's own
    // thread.
    func handle(
        _ event: Poller.Event, now: Int64, buffer: UnsafeMutableRawBufferPointer, poller: borrowing Poller
    ) {
        self.now = now
        let index = Int(event.token - Worker.OwnDescriptor.firstLink) / 2
        guard links.indices.contains(index) else { return }
        links[index].handle(event, now: now, buffer: buffer, poller: poller)
    }

    /// Does what is due, after the loop's events and before its walks.
    func turn(now: Int64, poller: borrowing Poller) {
        self.now = now
        shared.hubMailbox.take(into: &inbox)
        for mail in inbox {
            switch mail {
            case .attach(let topic, let loop, let needs): attach(topic, loop: loop, needs: needs)
            case .detach(let topic, let loop): detach(topic, loop: loop)
            case .viewers(let counts, let loop): takeViewers(counts, loop: loop)
            }
        }
        inbox.removeAll(keepingCapacity: inbox.count <= 1_024)
        continueRepairs()
        readStates()
        readHistories()
        catchUpLoops()
        endLingering()
        narrowRings()
        reportViewers()
        for link in links {
            link.tick(now: now, poller: poller)
            link.flush(now: now, poller: poller)
        }
    }

    // MARK: Attaching

    private func attach(_ topic: Topic, loop: Int, needs: AttachmentNeeds) {
        guard let channel = channelsByTopic[topic] ?? open(topic) else {
            return post(.refused(topic), to: loop, beyondCapacity: true)
        }
        channel.lingersUntil = nil
        let bit: UInt64 = 1 << UInt64(loop)
        if needs.contains(.log), channel.hasWholeLog, channel.canServe {
            // The log was read a moment ago for another loop.
            return sendAttachment(channel, to: bit, events: recentEvents(channel), isThorough: true)
        } else if needs.contains(.log) {
            channel.loggingLoops |= bit
            if channel.phase == .live { queueStateRead(channel) }
        } else if needs.contains(.state) {
            channel.waitingLoops |= bit
            // In step, but the state at hand is older than the last event: one read for all that join
            // meanwhile. One without a state may be of before the auction's creation was published, which is
            // no event.
            let isFresh = channel.snapshot?.sequence == channel.last && channel.snapshot?.state != nil
            if channel.phase == .live, !isFresh { queueStateRead(channel) }
        } else {
            channel.resumingLoops |= bit
        }
        answerAttaches(channel)
    }

    /// Sends every waiting loop what it needs, if the channel has it.
    func answerAttaches(_ channel: HubChannel) {
        guard channel.sequence.last != nil, channel.snapshot != nil else { return }
        // While a fresh state is on its way, joiners wait for it; should it not come, the older one serves.
        let isRefreshing = channel.isReadQueued && links[channel.link].isUp
        var ready = channel.resumingLoops
        if channel.canServe, !isRefreshing {
            ready |= channel.waitingLoops
            if channel.loggingLoops != 0 { readHistory(channel) }
        }
        if !channel.canServe, channel.phase == .live, channel.waitingLoops | channel.loggingLoops != 0 {
            queueStateRead(channel)
        }
        // A loop that missed events may have to jump, and then shows the state.
        if !channel.canServe { ready &= ~channel.behindLoops }
        channel.resumingLoops &= ~ready
        channel.waitingLoops &= ~ready
        sendAttachment(channel, to: ready, events: recentEvents(channel), isThorough: false)
    }

    func recentEvents(_ channel: HubChannel) -> [EncodedEvent] {
        channel.ring.events(after: (channel.ring.first ?? 1) - 1) ?? []
    }

    func sendAttachment(
        _ channel: HubChannel, to loops: UInt64, events: [EncodedEvent], isThorough: Bool
    ) {
        guard loops != 0, let snapshot = channel.snapshot else { return }
        channel.attachedLoops |= loops
        let attachment = Attachment(
            topic: channel.topic, number: channel.number, snapshot: snapshot, events: events,
            last: channel.last, isThorough: isThorough)
        // Attachments are bounded by attaches, which are bounded by connections.
        forEachLoop(loops) { post(.attached(attachment), to: $0, beyondCapacity: true) }
    }

    private func detach(_ topic: Topic, loop: Int) {
        guard let channel = channelsByTopic[topic] else { return }
        let mask = ~(UInt64(1) << UInt64(loop))
        channel.attachedLoops &= mask
        channel.resumingLoops &= mask
        channel.waitingLoops &= mask
        channel.loggingLoops &= mask
        channel.behindLoops &= mask
        setViewers(0, on: channel, loop: loop)
        guard !channel.isWatched else { return }
        let hasHadSomething = channel.last > 0 || channel.snapshot?.state != nil
        guard hasHadSomething else { return close(channel) }
        let until = now + Limits.lingerMilliseconds
        channel.lingersUntil = until
        lingering.append((until, channel))
    }

    private func open(_ topic: Topic) -> HubChannel? {
        guard channelsByTopic.count < shared.configuration.maxAuctions else { return nil }
        let number = freeNumbers.popLast() ?? UInt32(channels.count)
        let channel = HubChannel(
            topic: topic, number: number, link: RedisKeys.server(of: topic.id, count: links.count),
            historyEvents: shared.configuration.historyEvents)
        if Int(number) == channels.count { channels.append(channel) } else { channels[Int(number)] = channel }
        channelsByTopic[topic] = channel
        counters.channels.set(channelsByTopic.count)
        links[channel.link].subscribe([topic.redisChannel])
        return channel
    }

    /// Whether a channel was not given up while a read of it was under way.
    func isOpen(_ channel: HubChannel) -> Bool {
        channels[Int(channel.number)] === channel
    }

    private func endLingering() {
        while let (until, channel) = lingering.first, now >= until {
            lingering.removeFirst()
            // It may have been watched and left again since.
            if isOpen(channel), channel.lingersUntil == until { close(channel) }
        }
    }

    private func close(_ channel: HubChannel) {
        links[channel.link].unsubscribe(channel.topic.redisChannel)
        repairing.removeValue(forKey: channel.number)
        behind.removeValue(forKey: channel.number)
        counters.historyBytes.add(-channel.ring.bytes)
        channelsByTopic.removeValue(forKey: channel.topic)
        channels[Int(channel.number)] = nil
        freeNumbers.append(channel.number)
        counters.channels.set(channelsByTopic.count)
    }

    // MARK: To the loops

    func post(_ mail: WorkerMail, to loop: Int, beyondCapacity: Bool = false) {
        // Loop 0 carries the hub and reads its mail later in this same turn.
        _ = shared.workers[loop].mailbox.post(mail, beyondCapacity: beyondCapacity, wakes: loop != 0)
    }

    func forEachLoop(_ loops: UInt64, _ body: (Int) -> Void) {
        var rest = loops
        while rest != 0 {
            body(rest.trailingZeroBitCount)
            rest &= rest - 1
        }
    }

    /// Hands an event that is next in its auction's order to the loops that watch it.
    func distribute(_ event: EncodedEvent, on channel: HubChannel) {
        let bytesBefore = channel.ring.bytes
        channel.ring.append(event)
        while counters.historyBytes.current + channel.ring.bytes - bytesBefore
            > shared.configuration.historyBytes,
            channel.ring.count > 1
        {
            channel.ring.dropOldest()
        }
        counters.historyBytes.add(channel.ring.bytes - bytesBefore)
        counters.events.add()
        forEachLoop(channel.attachedLoops & ~channel.behindLoops) { loop in
            let mailbox = shared.workers[loop].mailbox
            guard !mailbox.post(.event(channel: channel.number, event), wakes: loop != 0) else { return }
            counters.mailboxOverflows.add()
            channel.behindLoops |= 1 << UInt64(loop)
            behind[channel.number] = channel
        }
    }

    /// Tells the loops that the channel goes on at `snapshot`, with a declared jump.
    func distributeJump(_ snapshot: Snapshot, on channel: HubChannel) {
        forEachLoop(channel.attachedLoops) {
            post(.jump(channel: channel.number, snapshot), to: $0, beyondCapacity: true)
        }
    }

    /// Sends loops whose mailbox was full what they missed, as soon as there is room.
    private func catchUpLoops() {
        for channel in behind.values {
            if channel.canServe {
                forEachLoop(channel.behindLoops) { loop in
                    guard shared.workers[loop].mailbox.count < Limits.mailboxMessages / 2 else { return }
                    channel.behindLoops &= ~(UInt64(1) << UInt64(loop))
                    sendAttachment(
                        channel, to: 1 << UInt64(loop), events: recentEvents(channel), isThorough: false)
                }
            } else if channel.phase == .live {
                // The loop may have to jump, and then shows this state.
                queueStateRead(channel)
            }
            if channel.behindLoops == 0 { behind.removeValue(forKey: channel.number) }
        }
    }

    // MARK: RedisLinkOwner

    func linkIsUp(_ link: Int) {
        lastLoss[link] = nil
        logger.info("Redis link is up", metadata: ["redis": "\(links[link].url.address)"])
        counters.linksUp.add()
        let own = channelsByTopic.values.filter { $0.link == link }
        links[link].subscribe(own.map(\.topic.redisChannel))
    }

    func linkIsDown(_ link: Int, reason: String) {
        // Said once, not at every attempt.
        if lastLoss[link] == nil {
            logger.error(
                "Redis link is down; retrying",
                metadata: ["redis": "\(links[link].url.address)", "reason": "\(reason)"])
        }
        lastLoss[link] = reason
        counters.linkLosses.add()
        counters.linksUp.set(links.count { $0.isUp })
        stateQueues[link] = []
        stateReadsInFlight[link] = 0
        stateRetries.removeAll { $0.link == link }
        historyQueue.removeAll { $0.link == link }
        logReadsInFlight[link] = 0
        viewers[link] = ViewerReports()
        for channel in channelsByTopic.values where channel.link == link {
            channel.phase = .subscribing
            channel.stateMissingSince = nil
            channel.isReadQueued = false
            channel.isJumping = false
            channel.isReadingHistory = false
            channel.repair = nil
            repairing.removeValue(forKey: channel.number)
            answerAttaches(channel)
        }
    }

    func linkDelivers(_ link: Int, _ delivers: Bool) {
        counters.linksDelivering.set(links.count { $0.isDelivering })
    }

    func linkSubscribed(_ link: Int, channel name: String) {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic],
            channel.phase == .subscribing
        else { return }
        guard topic.kind == .auction else {
            channel.phase = .live
            channel.sequence.establish(0)
            channel.snapshot = Snapshot(sequence: 0, state: nil, isEnded: false)
            return answerAttaches(channel)
        }
        // Only now, so that nothing falls between the state and the first event.
        channel.phase = .reading
        queueStateRead(channel)
    }

    func linkReceived(_ link: Int, channel name: Span<UInt8>, message: Span<UInt8>) {
        let text = name.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        guard let topic = Topic(redisChannel: text), let channel = channelsByTopic[topic] else { return }
        let isAuction = topic.kind == .auction
        switch EventEnvelope.scan(message, auctionID: isAuction ? topic.id : nil) {
        case .failure(let reason): counters.withRejected(reason) { $0.add() }
        case .success(let envelope):
            accept(EventEncoder.event(message, envelope, hasSequence: isAuction), on: channel)
        }
    }
}
