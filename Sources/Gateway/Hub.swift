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
    var historyRetries: Deque<(at: Int64, channel: HubChannel)> = []
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
    /// True for each link whose loss was logged and whose return was not.
    private var isLossLogged: [Bool]
    /// Topics whose refusal by Redis was logged, until Redis accepts them again.
    private var loggedRefusals: Set<Topic> = []
    /// What the rings of all channels may hold together.
    var history: HistoryBudget
    var viewers: [ViewerReports]
    /// True for each link on which Redis does not let this gateway count viewers, once that was logged.
    var isViewersRefusalLogged: [Bool]
    private var inbox: [HubMail] = []

    init(shared: Shared, logger: Logger) {
        self.shared = shared
        self.logger = logger
        let urls = shared.configuration.redisURLs
        stateQueues = urls.map { _ in [] }
        stateReadsInFlight = urls.map { _ in 0 }
        logReadsInFlight = urls.map { _ in 0 }
        history = HistoryBudget(limit: shared.configuration.historyBytes)
        isLossLogged = urls.map { _ in false }
        isViewersRefusalLogged = urls.map { _ in false }
        viewers = urls.map { _ in ViewerReports() }
        var generator = SystemRandomNumberGenerator()
        gatewayID = String(UInt64.random(in: .min ... .max, using: &generator), radix: 36)
        links = urls.enumerated().map { index, url in
            let token = Worker.OwnDescriptor.firstLink + UInt64(2 * index)
            return RedisLink(
                url: url,
                identity: .init(
                    index: index, subscriberToken: token, commandToken: token + 1,
                    probeName: "\(gatewayID).\(index)"), owner: self)
        }
    }

    var counters: HubCounters { shared.hubCounters }

    /// Whether something needs attention sooner than a tick: a link that connects, a hole, a loop that is
    /// behind.
    var isBusy: Bool {
        !repairing.isEmpty || !behind.isEmpty || !stateRetries.isEmpty || !historyRetries.isEmpty
            || links.contains { !$0.isUp }
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
            post(.refused(topic, .tooManyAuctions), to: loop, .always)
            return
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
        forEachLoop(loops) { post(.attached(attachment), to: $0, .always) }
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
        history.set(channel.number, bytes: 0)
        counters.historyBytes.set(history.total)
        channelsByTopic.removeValue(forKey: channel.topic)
        channels[Int(channel.number)] = nil
        freeNumbers.append(channel.number)
        counters.channels.set(channelsByTopic.count)
    }

    // MARK: To the loops

    @discardableResult
    func post(
        _ mail: WorkerMail, to loop: Int, _ admission: Mailbox<WorkerMail>.Admission = .withinCapacity
    ) -> Bool {
        // Loop 0 carries the hub and reads its mail later in this same turn.
        shared.workers[loop].mailbox.post(mail, admission, wakes: loop != 0)
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
        counters.events.add()
        guard event.sequence != 0 else { return distributeUnnumbered(event, on: channel) }
        keep(event, of: channel)
        forEachLoop(channel.attachedLoops & ~channel.behindLoops) { loop in
            guard !post(.event(channel: channel.number, event), to: loop) else { return }
            counters.mailboxOverflows.add()
            channel.behindLoops |= 1 << UInt64(loop)
            behind[channel.number] = channel
        }
    }

    /// An event without sequence number cannot be had again from the ring. A mailbox that is full has a
    /// reserve for it. When that is used up too, the loop sends the topic's watchers away, so that they know.
    private func distributeUnnumbered(_ event: EncodedEvent, on channel: HubChannel) {
        let isDroppable = event.treatment == .droppable
        forEachLoop(channel.attachedLoops) { loop in
            let mail = WorkerMail.event(channel: channel.number, event)
            let isTaken = post(mail, to: loop, isDroppable ? .withinCapacity : .withinReserve)
            guard !isTaken, !isDroppable else { return }
            counters.mailboxOverflows.add()
            channel.attachedLoops &= ~(UInt64(1) << UInt64(loop))
            post(.refused(channel.topic, .overrun), to: loop, .always)
        }
    }

    // MARK: History

    /// Puts an event into its ring, and takes from the rings what is then too much.
    private func keep(_ event: EncodedEvent, of channel: HubChannel) {
        channel.ring.append(event)
        history.noteEvent(channel.number, bytes: channel.ring.bytes, now: now)
        while let verdict = history.verdict(
            after: channel.number, events: channel.ring.count, now: now)
        {
            switch verdict {
            case .all(let number):
                guard let other = channels[Int(number)] else { return }
                other.ring.removeAll()
                history.set(number, bytes: 0)
            case .excess(let number, let bytes):
                guard let other = channels[Int(number)] else { return }
                while other.ring.bytes > bytes { other.ring.dropOldest() }
                history.set(number, bytes: other.ring.bytes)
            case .own:
                channel.ring.dropOldest()
                history.set(channel.number, bytes: channel.ring.bytes)
            }
        }
        counters.historyBytes.set(history.total)
    }

    /// Notes that a ring has changed for another reason than a new event.
    func noteHistory(_ channel: HubChannel) {
        history.set(channel.number, bytes: channel.ring.bytes)
        counters.historyBytes.set(history.total)
    }

    /// Tells the loops that the channel goes on at `snapshot`, with a declared jump.
    func distributeJump(_ snapshot: Snapshot, on channel: HubChannel) {
        forEachLoop(channel.attachedLoops) {
            post(.jump(channel: channel.number, snapshot), to: $0, .always)
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
        counters.linksDelivering.set(links.count { $0.isUp })
        // While the heartbeat is missing, a new connection proves nothing that was in doubt.
        if !links[link].isRelayMissing { logReturn(link) }
        let own = channelsByTopic.values.filter { $0.link == link }
        links[link].subscribe(own.map(\.topic.redisChannel))
    }

    func linkIsDown(_ link: Int, reason: String) {
        // Once, with the first cause, and not for every attempt that fails.
        if !isLossLogged[link] {
            isLossLogged[link] = true
            counters.linkLosses.add()
            logger.error(
                "Redis link is down; retrying",
                metadata: ["redis": "\(links[link].url.address)", "reason": "\(reason)"])
        }
        counters.linksDelivering.set(links.count { $0.isUp })
        stateQueues[link] = []
        stateReadsInFlight[link] = 0
        stateRetries.removeAll { $0.link == link }
        historyQueue.removeAll { $0.link == link }
        historyRetries.removeAll { $0.channel.link == link }
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

    private func logReturn(_ link: Int) {
        isLossLogged[link] = false
        logger.info("Redis link is up", metadata: ["redis": "\(links[link].url.address)"])
    }

    func linkHearsRelay(_ link: Int) {
        if isLossLogged[link], links[link].isUp { logReturn(link) }
    }

    func linkCannotHearRelay(_ link: Int, _ refusal: RedisRefusal) {
        logger.warning(
            "Redis does not let this user subscribe to the bid API's heartbeat; only probes tell of a wrong Redis",
            metadata: [
                "redis": "\(links[link].url.address)", "channel": "\(RedisKeys.relay)",
                "reason": "\(refusal)",
            ])
    }

    func linkRefused(_ link: Int, channel name: String, _ refusal: RedisRefusal) {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic] else { return }
        refuse(channel, refusal)
    }

    /// Redis refuses what belongs to this topic alone: its watchers are told so, and nobody else notices.
    func refuse(_ channel: HubChannel, _ refusal: RedisRefusal) {
        counters.refusedTopics.add()
        if loggedRefusals.count < Limits.loggedRefusals, loggedRefusals.insert(channel.topic).inserted {
            logger.error(
                "Redis refuses a channel or its keys; its watchers are sent away",
                metadata: [
                    "redis": "\(links[channel.link].url.address)",
                    "channel": "\(channel.topic.redisChannel)", "reason": "\(refusal)",
                ])
        }
        let loops =
            channel.attachedLoops | channel.resumingLoops | channel.waitingLoops | channel.loggingLoops
        forEachLoop(loops) { post(.refused(channel.topic, .unreadable), to: $0, .always) }
        close(channel)
    }

    /// Notes that Redis has served a topic, so that its next refusal is logged again.
    func noteServed(_ channel: HubChannel) {
        if !loggedRefusals.isEmpty { loggedRefusals.remove(channel.topic) }
    }

    func linkSubscribed(_ link: Int, channel name: String) {
        guard let topic = Topic(redisChannel: name), let channel = channelsByTopic[topic] else {
            // Its last watcher left while a refused batch was being sent anew.
            return links[link].unsubscribe(name)
        }
        guard channel.phase == .subscribing else { return }
        guard topic.kind == .auction else {
            noteServed(channel)
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
