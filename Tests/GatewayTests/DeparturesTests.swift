import AuctionEvents
import Fanout
import LiveProtocol
import Testing

@testable import Gateway

/// How crowds and single connections leave.
@Suite struct DeparturesTests {
    private func count(_ rooms: Rooms, _ peers: [Peer], in phase: ConnectionPhase) -> Int {
        peers.count { rooms.isOpen($0) && rooms.connections[$0.slot].phase == phase }
    }

    @Test("a drain and a disconnect are spread evenly over drain-seconds", arguments: [true, false])
    func pacing(isDrain: Bool) throws {
        let rooms = try Rooms(["--drain-seconds", "10"])
        let peers = try (0..<100).map { _ in try rooms.watcher() }
        if isDrain {
            rooms.departures.beginDrain(with: rooms.requests)
        } else {
            rooms.departures.disconnectWatchers("a")
        }
        for second in 1...10 {
            rooms.pass(milliseconds: 1_000)
            rooms.turn()
            #expect(count(rooms, peers, in: .closing) == 10 * second)
        }
        let text = peers[0].received()
        #expect(text.contains("retry_after_ms"))
    }

    @Test("one turn tells a bounded number to leave, also when all are due at once")
    func budget() throws {
        let rooms = try Rooms(["--drain-seconds", "0"])
        // Subscriptions are departures too, and need no sockets.
        let clients = try (0..<3).map { _ in try rooms.webSocket("/v1/live") }
        for client in clients {
            for number in 0..<500 {
                let id = try #require(AuctionID("s\(number)"))
                rooms.watching.subscribe(client.slot, id, since: nil)
            }
        }
        let shared = try #require(AuctionID("s0"))
        #expect(rooms.watching.watchers(of: .auction(shared.text)).count == 3)
        rooms.departures.disconnectWatchers(nil)
        rooms.departures.turn(with: rooms.requests)
        rooms.departures.workOffEndings()
        #expect(count(rooms, clients, in: .closing) == 3)
    }

    @Test("a topic that cannot be watched sends its watchers away with 1013, and later ones ask anew")
    func refusal() throws {
        let rooms = try Rooms()
        let watcher = try rooms.webSocket("/v1/auctions/a/live")
        let stream = try rooms.eventStream("/v1/auctions/a/live")
        let poll = try rooms.longPoll("/v1/auctions/a/live")
        _ = rooms.asked()
        rooms.departures.refuse(.auction("a"), .tooManyAuctions)
        rooms.turn()
        #expect(rooms.connections[watcher.slot].phase == .closing)
        #expect(stream.received().contains("event: CLOSE"))
        #expect(poll.received().hasPrefix("HTTP/1.1 503"))
        _ = try rooms.webSocket("/v1/auctions/a/live")
        #expect(rooms.asked().suffix(1) == ["attach a state"])
    }

    @Test("the first reason to end a connection stands, and it ends once")
    func firstReason() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        rooms.connections.end(watcher.slot, .dismissal(Dismissal(code: 1_013, message: "first")))
        rooms.connections.end(watcher.slot, .abrupt)
        #expect(rooms.connections[watcher.slot].phase == .watching)
        rooms.departures.workOffEndings()
        #expect(rooms.connections[watcher.slot].phase == .closing)
        #expect(watcher.received().hasSuffix("first"))
    }

    @Test("nothing is sent to a connection between the decision to end it and its end")
    func nothingFollows() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        rooms.connections.end(watcher.slot, .dismissal(Dismissal(code: 1_000, message: "over")))
        rooms.watching.take(Rooms.event(6), number: 0)
        rooms.watching.turn()
        rooms.departures.workOffEndings()
        let text = watcher.received()
        #expect(watcher.sequences(in: text).isEmpty && text.hasSuffix("over"))
    }

    @Test("watchers of an auction that is over leave after a minute, spread over drain-seconds")
    func auctionEnd() throws {
        let rooms = try Rooms(["--drain-seconds", "10"])
        let peers = try (0..<20).map { _ in try rooms.watcher() }
        rooms.deliver(Rooms.event(6, type: "AUCTION_ENDED"))
        func fire() {
            while let (slot, timer) = rooms.connections.nextTimer() {
                if timer == .departure { rooms.departures.auctionIsOver(slot) }
            }
            rooms.departures.workOffEndings()
        }
        rooms.pass(milliseconds: 59_000)
        fire()
        #expect(count(rooms, peers, in: .watching) == 20)
        rooms.pass(milliseconds: 12_000)
        fire()
        #expect(count(rooms, peers, in: .closing) == 20)
    }
}
