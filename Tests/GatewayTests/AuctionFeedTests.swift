import Fanout
import LiveProtocol
import Logging
import Reactor
import Telemetry
import Testing

@testable import Gateway

/// The feed's shell: what it posts to the loops, and what it keeps within its bounds.
@Suite struct AuctionFeedTests {
    private func feed(_ rooms: Rooms) -> AuctionFeed {
        AuctionFeed(shared: rooms.shared, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Lets loops attach to an auction whose state stands at `sequence`.
    private func open(
        _ feed: AuctionFeed, _ rooms: Rooms, _ id: String, loops: [Int], at sequence: UInt64
    ) throws -> FeedChannel {
        for loop in loops {
            _ = rooms.shared.feedMailbox.post(.attach(.auction(id), loop: loop, needs: .state))
        }
        feed.readMessages()
        let channel = try #require(feed.channelsByTopic[.auction(id)])
        feed.perform(channel) { $0.subscribed(&$1) }
        let state = Snapshot(sequence: sequence, state: Array("{}".utf8), isEnded: false)
        feed.perform(channel) { $0.stateRead(state, now: 0, &$1) }
        return channel
    }

    private func messages(_ rooms: Rooms, loop: Int) -> [String] {
        var messages: [LoopMessage] = []
        rooms.shared.loops[loop].mailbox.take(into: &messages)
        return messages.map { message in
            switch message {
            case .attached(let attachment): "attached \(attachment.last)"
            case .refused(let topic, let reason): "refused \(topic.id) \(reason)"
            case .event(_, let event): "event \(event.sequence)"
            case .jump(_, let snapshot): "jump \(snapshot.sequence)"
            case .feed(_, let isLive): isLive ? "live" : "not live"
            case .reload, .drain, .disconnect, .giveAway, .batchTaken, .keepAll, .adopt, .takeBack, .listen,
                .inspect, .inspected:
                "other"
            }
        }
    }

    @Test("a process that takes over waits until Redis delivers and every auction has been read")
    func preparation() throws {
        let rooms = try Rooms()
        let feed = feed(rooms)
        let reply = Reply<Void>()
        let topics: [Topic] = [.auction("a"), .user("u")]
        _ = rooms.shared.feedMailbox.post(.prepare(topics, reply), .always)
        feed.readMessages()
        for topic in topics {
            let channel = try #require(feed.channelsByTopic[topic])
            feed.perform(channel) { $0.subscribed(&$1) }
        }
        rooms.shared.feedCounters.linksDelivering.set(1)
        feed.continuePreparation()
        #expect(reply.wait(seconds: 0) == nil, "one auction was not read")
        let channel = try #require(feed.channelsByTopic[.auction("a")])
        feed.perform(channel) { $0.stateRead(nil, now: 0, &$1) }
        rooms.shared.feedCounters.linksDelivering.set(0)
        feed.continuePreparation()
        #expect(reply.wait(seconds: 0) == nil, "no Redis delivers")
        rooms.shared.feedCounters.linksDelivering.set(1)
        feed.continuePreparation()
        #expect(reply.wait(seconds: 0) != nil)
    }

    @Test("a loop whose mailbox is full is sent what it missed when there is room; the other notices nothing")
    func mailboxOverflow() throws {
        let rooms = try Rooms(loops: 2)
        let feed = feed(rooms)
        let channel = try open(feed, rooms, "a", loops: [0, 1], at: 5)
        #expect(messages(rooms, loop: 0) == ["attached 5"])
        // Loop 1 does not read. Its attachment is the first message in its mailbox.
        let count = UInt64(Limits.mailboxMessages) + 10
        for sequence in 6..<6 + count {
            feed.perform(channel) { $0.received(Rooms.event(sequence), now: 0, &$1) }
            if sequence % 1_000 == 0 { _ = messages(rooms, loop: 0) }
        }
        #expect(channel.machine.overflowed == LoopSet(loop: 1))
        #expect(rooms.shared.feedCounters.mailboxOverflows.current == 1)
        feed.catchUpLoops()
        #expect(channel.machine.overflowed == LoopSet(loop: 1), "there is no room yet")
        let read = messages(rooms, loop: 1)
        #expect(read.last == "event \(4 + Limits.mailboxMessages)", "nothing came behind the lost one")
        // The state is older than the ring, so the loop waits for a newer one.
        feed.catchUpLoops()
        let last = 5 + count
        let state = Snapshot(sequence: last, state: Array("{}".utf8), isEnded: false)
        feed.perform(channel) { $0.stateRead(state, now: 0, &$1) }
        feed.catchUpLoops()
        #expect(messages(rooms, loop: 1) == ["attached \(last)"])
        #expect(channel.machine.overflowed == [])
    }

    @Test("a lost event without sequence number sends the loop's watchers away, and a droppable one does not")
    func unnumberedOverflow() throws {
        let rooms = try Rooms()
        let feed = feed(rooms)
        let channel = try open(feed, rooms, "a", loops: [0], at: 5)
        let most = Limits.mailboxMessages + Limits.mailboxReserve
        for _ in 0..<most { feed.perform(channel) { $0.received(Rooms.event(0), now: 0, &$1) } }
        let read = messages(rooms, loop: 0)
        #expect(read.count == most + 1 && read.last == "refused a overrun")
        #expect(channel.machine.attached == [])
    }

    @Test("beyond max-auctions a topic is refused, and the earlier ones are not")
    func tooManyAuctions() throws {
        let rooms = try Rooms(["--max-auctions", "1"])
        let feed = feed(rooms)
        _ = try open(feed, rooms, "a", loops: [0], at: 5)
        _ = rooms.shared.feedMailbox.post(.attach(.auction("b"), loop: 0, needs: .state))
        feed.readMessages()
        #expect(messages(rooms, loop: 0) == ["attached 5", "refused b tooManyAuctions"])
    }

    @Test(
        "the rings of all auctions together stay within history-bytes, and one alone does too",
        arguments: [1, 4])
    func historyBytes(auctions: Int) throws {
        let rooms = try Rooms(["--history-bytes", "65536", "--history-events", "1000"])
        let feed = feed(rooms)
        let channels = try (0..<auctions).map { try open(feed, rooms, "a\($0)", loops: [0], at: 5) }
        for sequence in UInt64(6)..<300 {
            for channel in channels.prefix(sequence % 3 == 0 ? auctions : 1) {
                let next = channel.machine.last + 1
                feed.perform(channel) { $0.received(Rooms.event(next, padding: 200), now: 0, &$1) }
            }
            let held = channels.reduce(0) { $0 + $1.machine.historyBytes }
            #expect(held <= 65_536)
            #expect(rooms.shared.feedCounters.historyBytes.current == held)
            _ = messages(rooms, loop: 0)
        }
        #expect(channels[0].machine.historyCount > 0)
    }
}
