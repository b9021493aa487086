import Fanout
import LiveProtocol
import LocalServers
import Telemetry
import Testing

@testable import Gateway

/// From a request to the events at its client, over real sockets, without Redis.
@Suite struct WatchingTests {
    @Test("a joiner asks the feed once for its auction, and gets the snapshot and each event")
    func joining() throws {
        let rooms = try Rooms()
        let first = try rooms.webSocket("/v1/auctions/a/live")
        let second = try rooms.eventStream("/v1/auctions/a/live")
        #expect(rooms.asked() == ["attach a state"])
        rooms.attach(state: 5, last: 5)
        let opening = first.received()
        #expect(opening.hasPrefix("HTTP/1.1 101") && opening.contains(#""type":"SNAPSHOT""#))
        #expect(second.received().contains("id: 5\n"))
        rooms.deliver(Rooms.event(6))
        #expect(first.sequences(in: first.received()) == ["6"])
        #expect(second.received().contains("id: 6\n"))
    }

    @Test("the next joiner is served by the loop itself, in the packet of its handshake")
    func ownState() throws {
        let rooms = try Rooms()
        _ = try rooms.watcher(at: 5)
        _ = rooms.asked()
        let next = try rooms.webSocket("/v1/auctions/a/live")
        #expect(rooms.asked().isEmpty)
        let text = next.received()
        #expect(text.hasPrefix("HTTP/1.1 101") && text.contains(#""seq":5"#))
    }

    @Test("who resumes gets RESUMED and what it missed; from too far back, a snapshot that says so")
    func resuming() throws {
        let rooms = try Rooms()
        let near = try rooms.webSocket("/v1/auctions/a/live?since=6")
        let far = try rooms.webSocket("/v1/auctions/a/live?since=1")
        rooms.attach(state: 8, events: [6, 7, 8], last: 8)
        let resumed = near.received()
        #expect(resumed.contains(#""type":"RESUMED","auction_id":"a","since":6,"seq":8,"replayed":2"#))
        #expect(near.sequences(in: resumed) == ["7", "8"])
        #expect(!far.received().contains("SNAPSHOT"), "the log was not read yet")
        #expect(rooms.asked() == ["attach a", "attach a state log"])
        rooms.attach(state: 8, events: [6, 7, 8], last: 8, isThorough: true)
        #expect(far.received().contains(#""seq":8,"complete":false"#))
    }

    @Test(
        "a full socket keeps the newest bid, and nothing is lost or doubled around it",
        arguments: [false, true])
    func slowWatcher(isSecure: Bool) throws {
        let certificate = try LocalCertificate()
        let rooms = try Rooms(
            isSecure
                ? [
                    "--tls-listen", "127.0.0.1:0", "--tls-cert", certificate.certificate, "--tls-key",
                    certificate.key,
                ] : [])
        let client = isSecure ? try certificate.client() : nil
        let slow = try rooms.watcher(at: 5, sendBuffer: 4_608, client: client)
        let quick = try rooms.watcher(at: 5, client: client)
        var seen: [String] = []
        for sequence in UInt64(6)...40 {
            rooms.deliver(
                Rooms.event(sequence, type: sequence == 30 ? "TIME_EXTENDED" : "BID_UPDATE", padding: 900))
            seen += quick.sequences(in: quick.received())
        }
        #expect(seen == (6...40).map(String.init))
        #expect(rooms.connections[slow.slot].flags.contains(.hasBacklog))
        checkOrder(of: slow.sequences(in: readSlowly(slow, rooms)))
    }

    /// Reads and flushes in turns, until nothing waits for the watcher any more.
    private func readSlowly(_ slow: Peer, _ rooms: Rooms) -> String {
        var text = ""
        while rooms.connections[slow.slot].flags.contains(.hasBacklog) {
            text += slow.received()
            rooms.watching.flush(slow.slot)
        }
        return text + slow.received()
    }

    /// Events 6…40 came once and in order, and 30 alone.
    private func checkOrder(of parts: [String]) {
        var next: UInt64 = 6
        var merged = 0
        for part in parts {
            let ends = part.split(separator: "-").compactMap { UInt64($0) }
            #expect(ends.first == next, "\(part) after \(next - 1)")
            if ends.count == 2 { merged += 1 }
            #expect(!(ends[0]...ends[ends.count - 1]).contains(30) || part == "30", "30 was merged")
            next = (ends.last ?? 0) + 1
        }
        #expect(next == 41 && merged > 0)
    }

    @Test("lossless events beyond 64 KiB close the watcher with 4008, and only that one")
    func tooSlow() throws {
        let rooms = try Rooms()
        let slow = try rooms.watcher(at: 5, sendBuffer: 4_608)
        let quick = try rooms.watcher(at: 5)
        for sequence in UInt64(6)...100 {
            rooms.deliver(Rooms.event(sequence, type: "X", padding: 1_500))
            _ = quick.bytes()
        }
        #expect(rooms.connections[slow.slot].phase == .closing)
        #expect(rooms.context.counters.slowCloses.current == 1)
        #expect(rooms.connections[quick.slot].phase == .watching)
        // The close frame is the last thing that comes.
        var bytes: [UInt8] = []
        while rooms.isOpen(slow), rooms.connections[slow.slot].flags.contains(.hasBacklog) {
            bytes += slow.bytes()
            rooms.watching.flush(slow.slot)
        }
        bytes += slow.bytes()
        #expect(Array(bytes.suffix(12)) == [0x88, 10, 0x0F, 0xA8] + Array("too slow".utf8))
    }

    @Test("a client that is gone is closed after the walk that found out, and the others get everything")
    func brokenWatcher() throws {
        let rooms = try Rooms()
        let gone = try rooms.watcher()
        let others = try (0..<3).map { _ in try rooms.watcher() }
        gone.hangUp()
        rooms.deliver(Rooms.event(6))
        #expect(!rooms.isOpen(gone))
        for other in others { #expect(other.sequences(in: other.received()) == ["6"]) }
    }

    @Test("a loop that missed events takes them from the feed, or tells everyone of the jump")
    func catchingUp() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher(at: 5)
        rooms.attach(state: 8, events: [4, 5, 6, 7, 8], last: 8)
        #expect(watcher.sequences(in: watcher.received()) == ["6", "7", "8"])
        rooms.attach(state: 20, events: [19, 20], last: 20)
        #expect(watcher.received().contains(#""seq":20,"complete":false"#))
        rooms.deliver(Rooms.event(21))
        #expect(watcher.sequences(in: watcher.received()) == ["21"])
    }

    @Test("a long-poll is answered by the next event, and its connection takes the next request")
    func longPoll() throws {
        let rooms = try Rooms()
        let poll = try rooms.longPoll("/v1/auctions/a/live?since=5")
        rooms.attach(state: 5, last: 5)
        #expect(poll.received().isEmpty)
        rooms.deliver(Rooms.event(6))
        let answer = poll.received()
        #expect(answer.hasPrefix("HTTP/1.1 200") && answer.contains(#""seq":6,"complete":true"#))
        #expect(rooms.connections[poll.slot].phase == .readingHead)
        rooms.send("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        #expect(poll.received().hasPrefix("HTTP/1.1 404"))
    }

    @Test(
        "FEED reaches every watcher, and a joiner behind its first message; a poll's answer says live instead"
    )
    func feed() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher(at: 5)
        let stream = try rooms.eventStream("/v1/auctions/a/live")
        let poll = try rooms.longPoll("/v1/auctions/a/live?since=5")
        _ = stream.received()
        rooms.watching.takeFeed(number: 0, isLive: false)
        rooms.turnUntilIdle()
        let told = #""type":"FEED","auction_id":"a","live":false,"server_time":"#
        #expect(watcher.received().contains(told))
        let block = stream.received()
        #expect(block.hasPrefix("event: FEED\ndata: {") && block.contains(told) && !block.contains("id:"))
        #expect(poll.received().isEmpty)
        let joiner = try rooms.webSocket("/v1/auctions/a/live").received()
        let first = try #require(joiner.firstRange(of: "SNAPSHOT"))
        #expect(try #require(joiner.firstRange(of: told)).lowerBound > first.lowerBound)
        let asker = try rooms.longPoll("/v1/auctions/a/live")
        #expect(asker.received().contains(#""seq":5,"complete":true,"live":false,"events":[{"#))
        rooms.attach(state: 5, last: 5, isLive: true)
        #expect(
            watcher.received().contains(#""live":true"#), "a loop that missed FEED has it with its attachment"
        )
        rooms.deliver(Rooms.event(6))
        #expect(poll.received().contains(#""seq":6,"complete":true,"live":true,"#))
    }

    @Test("the last watcher's leaving gives the auction up")
    func leaving() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        _ = rooms.asked()
        watcher.hangUp()
        rooms.connections.read(watcher.slot, with: rooms.requests)
        #expect(rooms.isOpen(watcher), "a connection ends after the step, not in it")
        rooms.departures.workOffEndings()
        #expect(!rooms.isOpen(watcher) && rooms.asked() == ["detach a"])
    }

    @Test("a crowd that waits is greeted in stretches, and the events meanwhile reach everybody once")
    func crowd() throws {
        let rooms = try Rooms()
        let crowd = try (0..<300).map { _ in try rooms.webSocket("/v1/auctions/a/live") }
        rooms.watching.take(
            Fanout.Attachment(
                topic: .auction("a"), number: 0,
                snapshot: Snapshot(sequence: 5, state: Array("{}".utf8), isEnded: false), events: [], last: 5,
                isThorough: false, isLive: true))
        rooms.watching.continueGreetings()
        rooms.deliver(Rooms.event(6))
        for watcher in crowd {
            let text = watcher.received()
            #expect(text.contains("SNAPSHOT") && watcher.sequences(in: text) == ["5", "6"])
        }
    }

    @Test("a hot auction's walks yield each turn, so another auction and newcomers do not wait for their end")
    func fairness() throws {
        let rooms = try Rooms()
        let crowd = try (0..<300).map { _ in try rooms.watcher() }
        let quiet = try rooms.webSocket("/v1/auctions/b/live")
        rooms.attach("b", number: 1, state: 5, last: 5)
        _ = quiet.received()
        let third = try rooms.webSocket("/v1/auctions/c/live")
        rooms.attach("c", number: 2, state: 5, last: 5)
        // Events without a sequence number neither merge nor share a send.
        let notes = 20
        for _ in 0..<notes { rooms.watching.take(Rooms.event(0, type: "NOTE"), number: 0) }
        rooms.watching.take(Rooms.event(6), number: 1)
        let newcomer = try rooms.webSocket("/v1/auctions/c/live")
        rooms.turn()
        #expect(quiet.received().contains(#""seq":6"#))
        #expect(third.received().contains("SNAPSHOT") && newcomer.received().contains("SNAPSHOT"))
        #expect(rooms.context.counters.deliveries.current <= Limits.sendsPerTurn + Limits.walkChunk)
        #expect(rooms.watching.hasWork)
        rooms.turnUntilIdle()
        for watcher in crowd { #expect(watcher.received().split(separator: "NOTE").count - 1 == notes) }
    }

    @Test("subscriptions of one connection come and go without touching each other")
    func subscriptions() throws {
        let rooms = try Rooms()
        let client = try rooms.webSocket("/v1/live")
        for id in ["a", "b"] {
            rooms.send(masked(#"{"type":"SUBSCRIBE","auction_id":"\#(id)"}"#), from: client)
        }
        #expect(rooms.asked() == ["attach a state", "attach b state"])
        rooms.attach("a", state: 5, last: 5)
        rooms.send(masked(#"{"type":"UNSUBSCRIBE","auction_id":"b"}"#), from: client)
        #expect(rooms.asked() == ["detach b"])
        _ = client.received()
        rooms.deliver(Rooms.event(6))
        #expect(client.sequences(in: client.received()) == ["6"])
        #expect(rooms.connections[client.slot].phase == .multiplexing)
    }

    private func masked(_ text: String) -> [UInt8] {
        let payload = Array(text.utf8)
        return [0x81, 0x80 | UInt8(payload.count), 0, 0, 0, 0] + payload
    }
}
