import Fanout
import LiveProtocol
import Telemetry
import Testing

@testable import Gateway

@Suite struct ManyPollsTests {
    private func body(_ peer: Peer) throws -> String {
        let text = peer.received()
        guard !text.isEmpty else { return "" }
        #expect(text.hasPrefix("HTTP/1.1 200") && text.contains("Cache-Control: no-store"))
        return String(try #require(text.split(separator: "\r\n\r\n").last))
    }

    @Test("a first request is answered as soon as every auction has its snapshot")
    func first() throws {
        let rooms = try Rooms()
        let poll = try rooms.longPoll("/v1/live?auctions=a,b")
        #expect(rooms.asked() == ["attach a state", "attach b state"])
        rooms.attach("a", state: 5, last: 5)
        #expect(try body(poll) == "")
        rooms.attach("b", number: 1, state: 7, last: 7)
        let answer = try body(poll)
        #expect(
            answer.hasPrefix(
                #"{"auctions":[{"auction_id":"a","seq":5,"complete":true,"live":true,"events":[{"#))
        #expect(answer.contains(#"{"auction_id":"b","seq":7,"complete":true,"#))
        #expect(rooms.connections[poll.slot].phase == .readingHead)
        #expect(rooms.context.counters.subscriptions.current == 0)
        #expect(rooms.context.counters.longPolls.current == 0)
        #expect(rooms.asked() == ["detach a", "detach b"])
    }

    @Test(
        "with cursors it waits, and is answered with the auctions that have something; the next one goes on")
    func later() throws {
        let rooms = try Rooms()
        let keeper = try rooms.watcher(at: 5)
        let poll = try rooms.longPoll("/v1/live?auctions=a,b&since=a:5,b:7")
        rooms.attach("b", number: 1, state: 7, last: 7)
        #expect(try body(poll) == "")
        rooms.deliver(Rooms.event(6))
        #expect(try body(poll).hasPrefix(#"{"auctions":[{"auction_id":"a","seq":6,"complete":true,"#))
        #expect(keeper.sequences(in: keeper.received()) == ["6"])
        // Nothing came meanwhile, so the time runs out.
        rooms.send(
            "GET /v1/live?auctions=a,b&since=a:6,b:7&timeout=2 HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        rooms.attach("b", number: 1, state: 7, last: 7)
        #expect(try body(poll) == "")
        rooms.pass(milliseconds: 2_000)
        rooms.watching.manyPollTimedOut(poll.slot)
        #expect(try body(poll) == #"{"auctions":[]}"#)
        // An auction whose Redis does not deliver has something to tell.
        rooms.watching.takeFeed(number: 0, isLive: false)
        rooms.send("GET /v1/live?auctions=a&since=a:6&timeout=2 HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        rooms.turnUntilIdle()
        #expect(try body(poll) == "")
        rooms.watching.manyPollTimedOut(poll.slot)
        #expect(
            try body(poll)
                == #"{"auctions":[{"auction_id":"a","seq":6,"complete":true,"live":false,"events":[]}]}"#)
    }

    @Test("an auction that cannot be read delays the others by a second, and alone it is answered with 503")
    func unreadable() throws {
        let rooms = try Rooms()
        let poll = try rooms.longPoll("/v1/live?auctions=a,b")
        rooms.attach("a", state: 5, last: 5)
        rooms.watching.manyPollTimedOut(poll.slot)
        #expect(try body(poll).hasPrefix(#"{"auctions":[{"auction_id":"a","#))
        rooms.send("GET /v1/live?auctions=b HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        rooms.watching.manyPollTimedOut(poll.slot)
        let refusal = poll.received()
        #expect(refusal.hasPrefix("HTTP/1.1 503") && refusal.contains("Retry-After:"))
    }

    @Test("a drain or an operator ends a poll with 503, and the connection's next request is served")
    func sentAway() throws {
        let rooms = try Rooms(["--drain-seconds", "0"])
        let poll = try rooms.longPoll("/v1/live?auctions=a,b&since=a:5,b:7")
        rooms.attach("a", state: 5, last: 5)
        rooms.departures.disconnectWatchers("a")
        rooms.pass(milliseconds: 1)
        rooms.turnUntilIdle()
        #expect(poll.received().hasPrefix("HTTP/1.1 503"))
        rooms.send("GET /v1/live?auctions=a&since=a:5 HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        rooms.attach("a", state: 6, events: [6], last: 6)
        #expect(try body(poll).contains(#""seq":6"#))
        rooms.send("GET /v1/live?auctions=a&since=a:6 HTTP/1.1\r\nHost: h\r\n\r\n", from: poll)
        rooms.departures.beginDrain(with: rooms.requests)
        rooms.pass(milliseconds: 1)
        rooms.turnUntilIdle()
        #expect(poll.received().hasPrefix("HTTP/1.1 503"))
    }

    @Test("a client that leaves takes its auctions along")
    func leaving() throws {
        let rooms = try Rooms()
        let poll = try rooms.longPoll("/v1/live?auctions=a,b&since=a:5,b:7")
        _ = rooms.asked()
        poll.hangUp()
        rooms.connections.read(poll.slot, with: rooms.requests)
        rooms.departures.workOffEndings()
        #expect(Set(rooms.asked()) == ["detach a", "detach b"])
        #expect(rooms.watching.manyPolls.isEmpty && rooms.context.counters.subscriptions.current == 0)
    }
}
