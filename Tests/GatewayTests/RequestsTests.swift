import Fanout
import LiveProtocol
import Synchronization
import Telemetry
import Testing

@testable import Gateway

/// Requests as they come over a socket, and connections that are turned away.
@Suite struct RequestsTests {
    @Test("pipelined requests are answered in order, and what follows a last answer is not read")
    func pipelining() throws {
        let rooms = try Rooms()
        let peer = try rooms.connect(
            "GET /x HTTP/1.1\r\nHost: h\r\n\r\nGET /y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /z HTTP/1.1\r\n"
        )
        let text = peer.received()
        #expect(text.ranges(of: "HTTP/1.1 404").count == 2)
        #expect(rooms.connections[peer.slot].phase == .lingering)
    }

    @Test("the server's time is there for every page, and never from a cache")
    func time() throws {
        let rooms = try Rooms()
        let peer = try rooms.connect(
            "GET /v1/time HTTP/1.1\r\nHost: h\r\nOrigin: https://other.example\r\n\r\n")
        let text = peer.received()
        #expect(text.hasPrefix("HTTP/1.1 200") && text.contains("Access-Control-Allow-Origin: *\r\n"))
        #expect(text.contains("Cache-Control: no-store\r\n"))
        let body = String(text.split(separator: "\r\n\r\n")[1])
        #expect(body.wholeMatch(of: /\{"server_time":"\d{4}-\d\d-\d\dT[\d:.]+Z"\}/) != nil, "\(body)")
        rooms.send("HEAD /v1/time HTTP/1.1\r\nHost: h\r\n\r\n", from: peer)
        #expect(peer.received().hasSuffix("\r\n\r\n"))
        rooms.send("POST /v1/time HTTP/1.1\r\nHost: h\r\n\r\n", from: peer)
        #expect(peer.received().hasPrefix("HTTP/1.1 405"))
    }

    @Test("a client's own heartbeat interval holds for its connection alone")
    func heartbeat() throws {
        let rooms = try Rooms(["--heartbeat-seconds", "40"])
        let asking = try rooms.eventStream("/v1/auctions/a/live?heartbeat=5")
        let other = try rooms.eventStream("/v1/auctions/a/live")
        rooms.attach(state: 5, last: 5)
        _ = (asking.received(), other.received())
        for _ in 0..<40 {
            rooms.pass(milliseconds: 250)
            while let (slot, timer) = rooms.connections.nextTimer() {
                #expect(timer == .own)
                rooms.watching.heartbeatIsDue(slot)
            }
        }
        let beats = asking.received().split(separator: "\n\n").count
        #expect(beats == 2 || beats == 3, "\(beats) in 10 s")
        #expect(other.received().isEmpty)
    }

    @Test("a request that waits for a long-poll's answer is read after it")
    func requestBehindPoll() throws {
        let rooms = try Rooms()
        let peer = try rooms.longPoll("/v1/auctions/a/live?since=5")
        rooms.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n", from: peer)
        #expect(peer.received().isEmpty)
        rooms.attach(state: 6, events: [6], last: 6)
        rooms.turn()
        let text = peer.received()
        #expect(text.contains("HTTP/1.1 200") && text.contains("HTTP/1.1 404"))
    }

    @Test("more than 8 KiB sent ahead of an answer closes the connection")
    func tooMuchAhead() throws {
        let rooms = try Rooms()
        let peer = try rooms.longPoll("/v1/auctions/a/live?since=5")
        rooms.send(String(repeating: "x", count: 8_193), from: peer)
        #expect(!rooms.isOpen(peer))
    }

    @Test("a full gateway says so in the words of each transport", arguments: ["socket", "stream", "poll"])
    func overCapacity(transport: String) throws {
        let rooms = try Rooms()
        rooms.shared.isOverMemory.store(true, ordering: .relaxed)
        let path = "/v1/auctions/a/live"
        let peer =
            switch transport {
            case "socket": try rooms.webSocket(path)
            case "stream": try rooms.eventStream(path)
            default: try rooms.longPoll(path)
            }
        let text = String(decoding: peer.bytes(), as: Unicode.ASCII.self)
        switch transport {
        case "socket": #expect(text.hasPrefix("HTTP/1.1 101") && text.contains("retry_after_ms"))
        case "stream": #expect(text.hasPrefix("HTTP/1.1 200") && text.contains(#""code":1013"#))
        default: #expect(text.hasPrefix("HTTP/1.1 503") && text.contains("Retry-After"))
        }
        #expect(rooms.asked().isEmpty)
    }

    @Test("an illegal frame closes with its code, and nothing that follows it is looked at")
    func violation() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        // Unmasked, then a valid ping.
        rooms.send([0x81, 1, 0x7B] + [0x89, 0x80, 0, 0, 0, 0], from: watcher)
        #expect(watcher.bytes() == [0x88, 2, 0x03, 0xEA])
        #expect(rooms.connections[watcher.slot].phase == .lingering)
        #expect(rooms.context.counters.protocolErrors.current == 1)
    }

    @Test("a close frame is answered with its code, and the connection is gone")
    func close() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        rooms.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8], from: watcher)
        #expect(watcher.bytes() == [0x88, 2, 0x03, 0xE8])
        #expect(!rooms.isOpen(watcher))
    }

    @Test("a close frame that came together with a wrong message ends the connection at once")
    func closeBehindViolation() throws {
        let rooms = try Rooms()
        let watcher = try rooms.watcher()
        // Binary, which is not understood, then the peer's close frame.
        rooms.send([0x82, 0x80, 0, 0, 0, 0, 0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8], from: watcher)
        #expect(rooms.connections[watcher.slot].phase == .closing)
        rooms.turn()
        #expect(!rooms.isOpen(watcher))
    }

    @Test("who sends pings and reads nothing is cut off")
    func pingFlood() throws {
        let rooms = try Rooms(["--messages-per-second", "0"])
        let watcher = try rooms.watcher(sendBuffer: 4_608)
        let ping = [UInt8]([0x89, 0x80 | 125, 0, 0, 0, 0] + [UInt8](repeating: 1, count: 125))
        for _ in 0..<2_000 where rooms.isOpen(watcher) {
            rooms.send(ping, from: watcher)
            rooms.turn()
        }
        #expect(!rooms.isOpen(watcher))
    }
}
