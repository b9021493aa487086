import Fanout
import LiveProtocol
import Testing

/// What a loop decides about one topic, without a socket.
@Suite struct ChannelTests {
    private static func bid(_ sequence: UInt64) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence, treatment: .conflatable, type: "BID_UPDATE",
            frame: [UInt8](repeating: 0, count: 100), jsonStart: 0)
    }

    private static func lossless(_ sequence: UInt64) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence, treatment: .lossless, type: "TIME_EXTENDED",
            frame: [UInt8](repeating: 0, count: 100), jsonStart: 0)
    }

    private static func attachment(
        state: UInt64, events: ClosedRange<UInt64>? = nil, last: UInt64, isThorough: Bool = false
    ) -> Fanout.Attachment {
        Fanout.Attachment(
            topic: .auction("a"), number: 1,
            snapshot: Snapshot(sequence: state, state: [123, 125], isEnded: false),
            events: events?.map(bid) ?? [], last: last, isThorough: isThorough, isLive: true)
    }

    private static func feed(_ isLive: Bool) -> EncodedEvent {
        EncodedEvent(
            sequence: 0, cursor: nil, treatment: .replaceable, type: isLive ? "up" : "down",
            frame: [0], jsonStart: 0)
    }

    @Test("a newer FEED replaces the one that has not begun its walk, and stands behind what came before it")
    func replaceable() {
        let channel = Self.watched()
        _ = channel.take(Self.feed(false), now: 0)
        _ = channel.take(Self.lossless(6), now: 0)
        _ = channel.take(Self.feed(true), now: 0)
        #expect(channel.pending.map(\.event.type) == ["TIME_EXTENDED", "up"])
        _ = channel.beginWalk(bytes: 1_000, now: 0, window: 0)
        _ = channel.take(Self.feed(false), now: 0)
        _ = channel.take(Self.feed(true), now: 0)
        #expect(channel.walked.map(\.event.type) == ["TIME_EXTENDED"])
        #expect(channel.pending.map(\.event.type) == ["TIME_EXTENDED", "up"])
        while let stretch = channel.nextStretch(budget: 1) { channel.endStretch(stretch) { _, _ in } }
        channel.endWalk(now: 0)
        _ = channel.beginWalk(bytes: 1_000, now: 0, window: 0)
        _ = channel.take(Self.feed(false), now: 0)
        #expect(channel.pending.map(\.event.type) == ["up", "down"], "a walk under way is not taken back")
    }

    /// A channel with one watcher, in step at 5.
    private static func watched() -> Channel {
        let channel = Channel(topic: .auction("a"), index: 0)
        channel.advance(to: attachment(state: 5, last: 5))
        _ = channel.watchers[DeliveryGroup.frames.rawValue].append(1)
        return channel
    }

    /// The sequence numbers that the next walk carries, each as first…last; ends that walk.
    private static func nextWalk(of channel: Channel, now: Int64, window: Int64 = 0) -> [String] {
        _ = channel.beginWalk(bytes: 1_000, now: now, window: window)
        let walked = channel.walked.map { "\($0.first)…\($0.event.sequence)" }
        while let stretch = channel.nextStretch(budget: 1) { channel.endStretch(stretch) { _, _ in } }
        channel.endWalk(now: now)
        return walked
    }

    @Test("a loop asks the feed once for what many watchers need")
    func requests() {
        let channel = Channel(topic: .auction("a"), index: 0)
        #expect(channel.request(.state))
        #expect(!channel.request(.state))
        #expect(!channel.request([]))
        #expect(channel.request([.state, .log]))
        _ = channel.adopt(Self.attachment(state: 5, last: 5))
        #expect(channel.request(.state))
    }

    @Test("a loop serves watchers at the last event itself, and joiners while its state is the newest")
    func ownAttachment() {
        let channel = Self.watched()
        #expect(channel.ownAttachment(since: nil) == nil, "no number yet")
        _ = channel.adopt(Self.attachment(state: 5, last: 5))
        #expect(channel.ownAttachment(since: nil) != nil)
        _ = channel.take(Self.bid(6), now: 0)
        #expect(channel.ownAttachment(since: nil) == nil, "the state is older than the last event")
        #expect(channel.ownAttachment(since: 6) != nil)
        #expect(channel.ownAttachment(since: 5) == nil)
    }

    @Test("events that were missed are taken from the attachment, or declared by a jump")
    func catchingUp() {
        let channel = Self.watched()
        let near = channel.adopt(Self.attachment(state: 8, events: 4...8, last: 8))
        #expect(near.missed.map(\.sequence) == [6, 7, 8] && !near.jumps)
        let far = channel.adopt(Self.attachment(state: 9, events: 8...9, last: 9))
        #expect(far.jumps)
    }

    @Test("after a jump to a state that is ahead, the events in between still come for who is greeted now")
    func jumpAhead() {
        let channel = Self.watched()
        let attachment = Self.attachment(state: 12, events: 8...9, last: 9)
        #expect(channel.adopt(attachment).jumps)
        let jump = EncodedEvent(
            sequence: 12, cursor: 12, treatment: .message, type: "SNAPSHOT", frame: [1], jsonStart: 0)
        _ = channel.take(jump, now: 0)
        channel.advance(to: attachment)
        #expect(channel.last == 9)
        guard case .appended = channel.take(Self.bid(10), now: 0) else {
            Issue.record("10 was not taken")
            return
        }
    }

    @Test("bids merge when they have waited 50 ms, never across a lossless event")
    func merging() {
        let channel = Self.watched()
        for sequence in UInt64(6)...8 { _ = channel.take(Self.bid(sequence), now: 0) }
        _ = channel.take(Self.lossless(9), now: 0)
        for sequence in UInt64(10)...11 { _ = channel.take(Self.bid(sequence), now: 10) }
        #expect(Self.nextWalk(of: channel, now: 60) == ["6…8", "9…9", "10…11"])
    }

    @Test("a gateway that keeps up merges nothing, and sends what follows in one piece up to the bound")
    func batching() {
        let channel = Self.watched()
        for sequence in UInt64(6)...17 { _ = channel.take(Self.bid(sequence), now: 0) }
        #expect(Self.nextWalk(of: channel, now: 10).count == 10)
        #expect(Self.nextWalk(of: channel, now: 10) == ["16…16", "17…17"])
    }

    @Test("within an open window bids wait and merge; a lossless event ends it")
    func window() {
        let channel = Self.watched()
        _ = channel.take(Self.bid(6), now: 0)
        #expect(Self.nextWalk(of: channel, now: 0, window: 100) == ["6…6"])
        _ = channel.take(Self.bid(7), now: 10)
        guard case .merged = channel.take(Self.bid(8), now: 20) else {
            Issue.record("8 did not merge")
            return
        }
        #expect(channel.awaitsWindow(now: 50))
        #expect(!channel.awaitsWindow(now: 100))
        _ = channel.take(Self.lossless(9), now: 50)
        #expect(!channel.awaitsWindow(now: 50))
    }

    @Test("a jump and an event without a sequence number walk alone")
    func alone() {
        let channel = Self.watched()
        let unnumbered = EncodedEvent(
            sequence: 0, cursor: nil, treatment: .lossless, type: "X", frame: [1], jsonStart: 0)
        for event in [Self.bid(6), unnumbered, Self.bid(7)] { _ = channel.take(event, now: 0) }
        #expect(Self.nextWalk(of: channel, now: 0) == ["6…6"])
        #expect(Self.nextWalk(of: channel, now: 0) == ["0…0"])
        #expect(Self.nextWalk(of: channel, now: 0) == ["7…7"])
    }

    @Test("a walk reaches each watcher once, in stretches, also when some leave and others come meanwhile")
    func stretches() {
        let channel = Channel(topic: .auction("a"), index: 0)
        channel.advance(to: Self.attachment(state: 5, last: 5))
        for slot in UInt32(0)..<10 { _ = channel.watchers[0].append(slot) }
        _ = channel.take(Self.bid(6), now: 0)
        _ = channel.beginWalk(bytes: 1_000, now: 0, window: 0)
        var reached: [UInt32] = []
        while let stretch = channel.nextStretch(budget: 3) {
            reached += channel.watchers[0].slots[stretch.places].filter { $0 != SubscriberList.tombstone }
            if stretch.beginsGroup {
                _ = channel.watchers[0].remove(at: 0)
                _ = channel.watchers[0].remove(at: 5)
            }
            channel.endStretch(stretch) { _, _ in }
        }
        #expect(reached == [0, 1, 2, 3, 4, 6, 7, 8, 9])
        #expect(
            channel.watchers[0].count == 8 && !channel.watchers[0].slots.contains(SubscriberList.tombstone))
    }

    @Test("events that come while a crowd is greeted reach the rest behind their first message")
    func greeting() throws {
        let channel = Channel(topic: .auction("a"), index: 0)
        let attachment = Self.attachment(state: 5, last: 5)
        channel.advance(to: attachment)
        for slot in UInt32(0)..<4 { _ = channel.waiting.append(slot) }
        channel.beginGreeting(attachment) { _, _ in }
        let first = try #require(channel.nextGreeting(budget: 2))
        #expect(first.slots == [0, 1] && first.attachment.events.isEmpty)
        #expect(channel.continuesGreeting { _, _ in })
        _ = channel.take(Self.bid(6), now: 0)
        let second = try #require(channel.nextGreeting(budget: 2))
        #expect(second.slots == [2, 3] && second.attachment.events.map(\.sequence) == [6])
        #expect(second.attachment.last == 6)
        #expect(!channel.continuesGreeting { _, _ in })
    }

    @Test("a jump, or too many events, ends a greeting: the rest needs a newer state")
    func greetingGivenUp() {
        let channel = Channel(topic: .auction("a"), index: 0)
        channel.advance(to: Self.attachment(state: 5, last: 5))
        for slot in UInt32(0)..<4 { _ = channel.waiting.append(slot) }
        channel.beginGreeting(Self.attachment(state: 5, last: 5)) { _, _ in }
        for sequence in 6..<UInt64(6 + FanoutLimits.greetingEvents) {
            _ = channel.take(Self.bid(sequence), now: 0)
        }
        #expect(channel.nextGreeting(budget: 1) != nil)
        _ = channel.take(Self.bid(UInt64(6 + FanoutLimits.greetingEvents)), now: 0)
        #expect(channel.nextGreeting(budget: 1) == nil)
    }
}
