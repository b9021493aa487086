// The channels of one loop with their watchers, from joining to leaving, and the events on their way to them.
// The feed sends its messages here, requests bring watches, and bytes go out through `Output`. This room
// never closes a connection itself. It puts the connection on the list of endings.
// Watching.swift: channels and what the feed says. Joining.swift, Greetings.swift: how a watcher begins.
// Walks.swift, IncompleteSends.swift: events. LongPolls.swift, ManyPolls.swift, EventStreams.swift,
// Subscriptions.swift: what is special about a transport. Heartbeats.swift: liveness.

import AuctionEvents
import DequeModule
import Fanout
import LiveProtocol
import Reactor
import Telemetry

final class Watching {
    let context: LoopContext
    let connections: Connections
    let output: Output

    // Channels
    private var channels: [Channel?] = []
    private var freeIndices: [UInt32] = []
    private var channelsByTopic: [Topic: Channel] = [:]
    private var channelsByNumber: [UInt32: Channel] = [:]
    private var nextViewersReportAt: Int64 = 0

    // Work in progress, continued each turn
    /// Channels with events to walk.
    var walks: Deque<Channel> = []
    /// Channels whose waiting watchers are being given their first messages.
    var greetings: Deque<Channel> = []
    /// Channels whose bids wait for the end of a window, in the order of that time.
    var windows: Deque<(end: Int64, channel: Channel)> = []
    /// When this turn's walks began, in microseconds.
    var walksBegan: Int64 = 0
    /// The first event of each walk that has ended in this turn.
    var finishedWalks: [EncodedEvent] = []
    /// The traced events of those walks.
    var tracedEvents: [TracedEvent] = []
    /// Limits how many traced events this loop reports per second.
    var traceBucket: RateBucket
    /// Filled by the delivery loop, emptied after each stretch.
    var incompleteSends: ContiguousArray<IncompleteSend> = []

    // Connections
    /// Live requests whose answer's head is not out.
    var openRequests: [UInt32: OpenRequest] = [:]
    /// The subscriptions of connections that carry many auctions.
    var subscriptionSets: [UInt32: SubscriptionSet] = [:]
    /// The answer to the handshake that is being read. It leaves with the first message, or when the reading
    /// ends.
    var pendingHandshake: (slot: UInt32, answer: [UInt8])?
    /// Long-polls over many auctions, by connection.
    var manyPolls: [UInt32: ManyPoll] = [:]
    /// The connections of those that are answered at the end of this turn.
    var duePolls: [UInt64] = []

    init(context: LoopContext, connections: Connections, output: Output) {
        self.context = context
        self.connections = connections
        self.output = output
        traceBucket = RateBucket(burst: Limits.tracesPerSecond, now: context.nowMilliseconds)
        incompleteSends.reserveCapacity(Limits.walkChunk)
    }

    /// True while the loop has work that does not wait for an event.
    var hasWork: Bool { !walks.isEmpty || !greetings.isEmpty || !duePolls.isEmpty }

    /// When the next window closes, in the loop's milliseconds.
    var nextWindowEnd: Int64? { windows.first?.end }

    /// Continues windows, greetings and walks, each within its budget.
    func turn() {
        closeWindows()
        continueGreetings()
        runWalks()
        answerDuePolls()
    }

    // MARK: Channels

    func channel(of topic: Topic) -> Channel? {
        channelsByTopic[topic]
    }

    /// The channel that a watcher is on.
    func channel(of slot: UInt32) -> Channel? {
        let index = connections[slot].channel
        return index == ConnectionSlab.none ? nil : channels[Int(index)]
    }

    /// False after the channel's last watcher left.
    func isOpen(_ channel: Channel) -> Bool {
        channels[Int(channel.index)] === channel
    }

    func makeChannel(_ topic: Topic) -> Channel {
        let index = freeIndices.popLast() ?? UInt32(channels.count)
        let channel = Channel(topic: topic, index: index)
        if Int(index) == channels.count { channels.append(channel) } else { channels[Int(index)] = channel }
        channelsByTopic[topic] = channel
        context.counters.channels.set(channelsByTopic.count)
        return channel
    }

    func retire(_ channel: Channel) {
        channelsByTopic.removeValue(forKey: channel.topic)
        forgetNumber(channel)
        channels[Int(channel.index)] = nil
        freeIndices.append(channel.index)
        channel.dropPending()
        context.counters.channels.set(channelsByTopic.count)
        _ = context.shared.feedMailbox.post(.detach(channel.topic, loop: context.handle.index))
    }

    /// Forgets the channel's number, unless the feed has given it to another topic meanwhile.
    private func forgetNumber(_ channel: Channel) {
        guard let number = channel.number, channelsByNumber[number] === channel else { return }
        channelsByNumber.removeValue(forKey: number)
    }

    /// The tokens of all watchers of a topic, including those that wait for their first message.
    func watchers(of topic: Topic) -> [UInt64] {
        guard let channel = channelsByTopic[topic] else { return [] }
        return ([channel.waiting] + channel.watchers).flatMap { list in
            list.slots.filter { $0 != SubscriberList.tombstone }.map(connections.token)
        }
    }

    // MARK: To the feed

    func requestAttachment(_ channel: Channel, _ needs: AttachmentNeeds) {
        guard channel.request(needs) else { return }
        _ = context.shared.feedMailbox.post(
            .attach(channel.topic, loop: context.handle.index, needs: needs))
    }

    /// Tells the feed of the channels whose number of watchers changed.
    func reportViewers() {
        guard context.configuration.viewersSeconds > 0, context.nowMilliseconds >= nextViewersReportAt
        else { return }
        nextViewersReportAt = context.nowMilliseconds + Limits.viewersReportMilliseconds
        var changes: [LocalViewers] = []
        for channel in channelsByTopic.values
        where channel.number != nil && channel.viewers != channel.reportedViewers
            && channel.topic.kind == .auction
        {
            channel.reportedViewers = channel.viewers
            changes.append(LocalViewers(topic: channel.topic, count: channel.viewers))
        }
        guard !changes.isEmpty else { return }
        _ = context.shared.feedMailbox.post(.viewers(changes, loop: context.handle.index))
    }

    // MARK: From the feed

    /// Forgets what the feed said of a topic that cannot be watched. Returns its watchers, which the caller
    /// sends away. A later joiner asks the feed again.
    func refuse(_ topic: Topic) -> [UInt64] {
        guard let channel = channelsByTopic[topic] else { return [] }
        forgetNumber(channel)
        channel.forgetFeed()
        return watchers(of: topic)
    }

    func take(_ attachment: Attachment) {
        guard let channel = channelsByTopic[attachment.topic] else { return }
        if channel.number != attachment.number {
            forgetNumber(channel)
            channelsByNumber[attachment.number] = channel
        }
        let (missed, jumps) = channel.adopt(attachment)
        if jumps { jump(channel, to: attachment.snapshot) }
        for event in missed { enqueue(event, on: channel) }
        channel.advance(to: attachment)
        setLive(attachment.isLive, on: channel)
        greetWaiting(channel, attachment)
    }

    func take(_ event: EncodedEvent, number: UInt32) {
        guard let channel = channelsByNumber[number], channel.snapshot != nil else { return }
        enqueue(event, on: channel)
    }

    func jump(number: UInt32, to snapshot: Snapshot) {
        guard let channel = channelsByNumber[number], channel.snapshot != nil else { return }
        jump(channel, to: snapshot)
    }

    /// Tells every watcher that events were skipped. It does so by a SNAPSHOT with `complete:false`, in its
    /// place among the events.
    private func jump(_ channel: Channel, to snapshot: Snapshot) {
        channel.snapshot = snapshot
        guard snapshot.sequence > channel.last else { return }
        enqueue(
            EventEncoder.jump(to: snapshot, auctionID: channel.topic.id, serverTime: context.serverTime()),
            on: channel)
    }

    /// The feed says whether an auction's Redis delivers.
    func takeFeed(number: UInt32, isLive: Bool) {
        guard let channel = channelsByNumber[number], channel.snapshot != nil else { return }
        setLive(isLive, on: channel)
    }

    /// Tells the watchers whether their auction's Redis delivers, when that has changed.
    private func setLive(_ isLive: Bool, on channel: Channel) {
        guard channel.isLive != isLive else { return }
        channel.isLive = isLive
        enqueue(feedEvent(of: channel), on: channel)
    }

    func feedEvent(of channel: Channel) -> EncodedEvent {
        EventEncoder.feed(
            channel.isLive, auctionID: channel.topic.id, serverTime: context.serverTime())
    }

    /// Queues an event for its walk.
    private func enqueue(_ event: EncodedEvent, on channel: Channel) {
        switch channel.take(event, now: context.nowMilliseconds) {
        case .ignored: return
        case .merged:
            let isWindowOpen = context.configuration.conflateMilliseconds > 0
            context.counters.conflated.add(isWindowOpen ? .window : .late)
        case .appended: break
        }
        guard !channel.isQueued else { return }
        if channel.awaitsWindow(now: context.nowMilliseconds) { return waitForWindow(channel) }
        channel.isQueued = true
        walks.append(channel)
    }
}
