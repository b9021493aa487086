import Fanout
import LoadClient
import Telemetry
import Testing
import Tokens

@testable import Gateway

/// Watchers that move from one gateway's rooms to another's.
@Suite struct MovingTests {
    private let old: Rooms
    private let new: Rooms

    init() throws {
        old = try Rooms()
        new = try Rooms()
    }

    @Test("a watcher goes on from its cursor without a word, with the events that it has missed")
    func missed() throws {
        let socket = try old.watcher(at: 5)
        let stream = try old.eventStream("/v1/auctions/a/live")
        _ = stream.received()
        #expect(old.handOver(to: new).count == 2)
        #expect(!old.isOpen(socket) && !old.isOpen(stream))
        #expect(old.asked().last == "detach a", "nobody watches here any more")
        #expect(new.asked() == ["attach a"])
        new.attach(state: 8, events: [4, 5, 6, 7, 8], last: 8)
        new.deliver(Rooms.event(9))
        #expect(socket.sequences(in: socket.received()) == ["6", "7", "8", "9"])
        let text = stream.received()
        #expect(stream.sequences(in: text) == ["6", "7", "8", "9"])
        #expect(!text.contains("RESUMED") && text.contains("id: 6\n"))
        #expect(new.context.counters.webSockets.current == 1)
        #expect(new.context.counters.eventStreams.current == 1)
    }

    @Test("a watcher that is ahead of the new process waits for the first event that it has not seen")
    func ahead() throws {
        let socket = try old.watcher(at: 5)
        for sequence in 6...8 { old.deliver(Rooms.event(UInt64(sequence))) }
        _ = socket.received()
        _ = old.handOver(to: new)
        new.attach(state: 6, last: 6)
        for sequence in 7...9 { new.deliver(Rooms.event(UInt64(sequence))) }
        #expect(socket.sequences(in: socket.received()) == ["9"])
    }

    @Test("what the new process cannot fill is declared")
    func gap() throws {
        let socket = try old.watcher(at: 5)
        _ = old.handOver(to: new)
        new.attach(state: 9, last: 9)
        #expect(new.asked() == ["attach a", "attach a state log"])
        new.attach(state: 9, last: 9, isThorough: true)
        #expect(socket.received().contains(#""seq":9,"complete":false"#))
    }

    @Test("what a client believes of Redis is known to the new process", arguments: [false, true])
    func silence(livesAgain: Bool) throws {
        let socket = try old.watcher(at: 5)
        old.watching.takeFeed(number: 0, isLive: false)
        old.turnUntilIdle()
        #expect(socket.received().contains(#""live":false"#))
        _ = old.handOver(to: new)
        new.attach(state: 5, last: 5, isLive: livesAgain)
        #expect(socket.received().contains(#""live":true"#) == livesAgain)
        new.watching.takeFeed(number: 0, isLive: true)
        new.turnUntilIdle()
        #expect(socket.received().contains(#""live":true"#) != livesAgain)
    }

    @Test("a connection with many auctions keeps them, their cursors and what it may watch")
    func many() throws {
        let socket = try old.webSocket("/v1/live")
        let stream = try old.eventStream("/v1/live?auctions=b,a")
        _ = (socket.received(), stream.received())
        old.send(
            WebSocketClient.frame(0x1, Array(#"{"type":"SUBSCRIBE","auction_id":"a"}"#.utf8)), from: socket)
        old.attach(state: 5, last: 5)
        old.attach("b", number: 1, state: 3, last: 3)
        #expect(stream.received().contains("id: b:3,a:5\n"))
        _ = socket.received()
        #expect(old.handOver(to: new).count == 2)
        new.attach(state: 5, last: 5)
        new.attach("b", number: 1, state: 3, last: 3)
        new.deliver(Rooms.event(6))
        #expect(socket.sequences(in: socket.received()) == ["6"])
        #expect(stream.received().contains("id: b:3,a:6\n"), "the order is the request's")
        new.send(
            WebSocketClient.frame(0x1, Array(#"{"type":"UNSUBSCRIBE","auction_id":"a"}"#.utf8)), from: socket)
        #expect(socket.received().contains("UNSUBSCRIBED"))
        #expect(new.context.counters.subscriptions.current == 2)
    }

    @Test("a waiting watcher and one with something that has no cursor do not move yet; a poll is answered")
    func notYet() throws {
        let joining = try old.webSocket("/v1/auctions/b/live")
        let watcher = try old.watcher(at: 5)
        let poll = try old.longPoll("/v1/auctions/a/live?since=5")
        _ = joining.received()
        old.watching.take(Rooms.event(0, type: "NOTE"), number: 0)
        #expect(!old.watching.mayMove(watcher.slot))
        let moved = old.handOver(to: new)
        #expect(moved.count == 2, "the note is out, and the poll's connection is idle")
        #expect(old.isOpen(joining))
        #expect(watcher.received().contains("NOTE"))
        #expect(poll.received().contains("NOTE"))
    }

    @Test("a token's expiry, a heartbeat and a compressed form move with the watcher")
    func settings() throws {
        let socket = try old.webSocket(
            "/v1/auctions/a/live?heartbeat=7", headers: "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        old.attach(state: 5, last: 5)
        old.connections.scheduleExpiry(socket.slot, at: old.context.tick(afterSeconds: 60))
        old.pass(milliseconds: 20_000)
        let moved = old.handOver(to: new)
        #expect(moved[0].heartbeatSeconds == 7 && moved[0].deflateBits >= 12)
        #expect((39...40).contains(try #require(moved[0].expirySeconds)))
        let slot = try #require(new.connections.all.first)
        #expect(new.connections.expirySeconds(slot) == moved[0].expirySeconds)
        #expect(new.connections[slot].takesSharedDeflate)
    }

    @Test("when the new process dies, what it has not confirmed comes back and misses nothing")
    func takenBack() throws {
        let socket = try old.watcher(at: 5)
        let port = HandoverPort()
        old.giving.begin(port, [])
        old.turn()
        #expect(!old.isOpen(socket))
        for case .batch(let connections, _) in port.close() {
            connections.forEach { _ = old.requests.adopt($0) }
        }
        old.giving.keepAll()
        old.attach(state: 6, events: [6], last: 6)
        old.deliver(Rooms.event(7))
        #expect(socket.sequences(in: socket.received()) == ["6", "7"])
    }

    @Test("connections over TLS and of the admin listener stay")
    func staying() throws {
        let admin = try old.connect()
        old.connections.mark(admin.slot, .isAdmin)
        let refused = try old.connect()
        old.connections.mark(refused.slot, .isRefused)
        #expect(old.handOver(to: new).isEmpty)
        #expect(old.isOpen(admin) && old.isOpen(refused))
    }
}
