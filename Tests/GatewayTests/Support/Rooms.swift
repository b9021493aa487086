import CLinux
import Fanout
import Glibc
import LiveProtocol
import Logging
import Reactor
import Settings
import Synchronization
import Testing
import TransportSecurity
import Wire

@testable import Gateway

/// The rooms of one loop over socket pairs, with a clock that the test moves.
final class Rooms {
    final class TestClock {
        var now: Int64 = 1_000_000
    }

    let shared: Shared
    let clock = TestClock()
    private let loop: EventLoop
    var context: LoopContext { loop.context }
    var connections: Connections { loop.connections }
    var admission: Admission { loop.admission }
    var watching: Watching { loop.watching }
    var requests: Requests { loop.requests }
    var departures: Departures { loop.departures }
    var giving: Giving { loop.giving }

    init(_ settings: [String] = [], loops: Int = 1) throws {
        let arguments = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workers", "\(loops)"]
        let reader = SettingsReader(schema: GatewaySettings.schema) { _ in "" }
        guard case .run(let values) = try reader.read(arguments: arguments + settings, environment: [:])
        else { throw SettingsError.usage("not to be run") }
        let configuration = try GatewayConfiguration(values, openFileLimit: 1_024, cores: 2)
        shared = try Shared(configuration: configuration)
        let listener = try Sockets.listen(on: configuration.listen, sharesPort: false)
        let clock = clock
        loop = try EventLoop(
            shared: shared, handle: shared.loops[0],
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ) { clock.now }
        loop.listen(PublicListeners(plain: [listener], secure: []), admin: nil)
    }

    deinit {
        for slot in connections.all { departures.close(slot) }
        admission.shutDown()
    }

    /// Moves the clock.
    func pass(milliseconds: Int64) {
        clock.now += milliseconds
        context.readClock()
    }

    /// What an event loop does once a turn, without the poller.
    func turn() {
        connections.beginTurn()
        requests.beginTurn()
        watching.turn()
        departures.workOffEndings()
        connections.readKeptInput(with: requests)
        departures.turn(with: requests)
        giving.turn()
        departures.workOffEndings()
    }

    func turnUntilIdle() {
        repeat { turn() } while watching.hasWork || connections.hasKeptInput
    }

    // MARK: Connections

    /// A connection with what its client has sent.
    /// - Parameter client: the client's side of TLS; the handshake is complete on return.
    func connect(
        _ text: String = "", sendBuffer: Int32? = nil, client: TLSClientContext? = nil
    ) throws -> Peer {
        var pair: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(gavelcast_stream | gavelcast_nonblocking), 0, &pair) == 0)
        if var bytes = sendBuffer {
            setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        }
        // As admission counts it.
        shared.connectionCount.add(1, ordering: .relaxed)
        let slot = try #require(try connections.insert(pair[0], isSecure: client != nil))
        let peer = Peer(slot: slot, token: connections.token(slot), descriptor: pair[1])
        if let client { try shakeHands(client, peer) }
        if !text.isEmpty { send(text, from: peer) }
        return peer
    }

    /// Lets a client send something, which is read at once.
    func send(_ text: String, from peer: Peer) {
        send(Array(text.utf8), from: peer)
    }

    func send(_ bytes: [UInt8], from peer: Peer) {
        _ = bytes.withUnsafeBytes { peer.session?.send($0) ?? Sockets.send(peer.descriptor, $0) }
        if isOpen(peer) { connections.read(peer.slot, with: requests) }
        departures.workOffEndings()
    }

    private func shakeHands(_ client: TLSClientContext, _ peer: Peer) throws {
        try #require(connections.beginSecuring(peer.slot))
        let session = try #require(TLSSession(client, host: "127.0.0.1", descriptor: peer.descriptor))
        peer.session = session
        var state = TLSSession.Handshake.wantsToRead
        for _ in 0..<20 where state != .complete || connections[peer.slot].phase == .securing {
            if state != .complete { state = session.handshake() }
            connections.beginTurn()
            connections.read(peer.slot, with: requests)
        }
        #expect(state == .complete && connections[peer.slot].phase == .readingHead)
        // The session ticket is a record without data.
        _ = peer.bytes()
    }

    /// Moves everything that may move to another gateway's rooms.
    func handOver(to other: Rooms) -> [MovedConnection] {
        let port = HandoverPort()
        giving.begin(port, [])
        var moved: [MovedConnection] = []
        for _ in 0..<20 {
            turn()
            while case .batch(let connections, _)? = port.next(withinSeconds: 0) {
                moved += connections
                giving.batchTaken(connections.count)
            }
            pass(milliseconds: Limits.givingRetryMilliseconds)
        }
        moved.forEach { _ = other.requests.adopt($0) }
        other.departures.workOffEndings()
        other.turnUntilIdle()
        return moved
    }

    func isOpen(_ peer: Peer) -> Bool { connections.slot(of: peer.token) != nil }

    func webSocket(
        _ path: String, sendBuffer: Int32? = nil, headers: String = "", client: TLSClientContext? = nil
    ) throws -> Peer {
        let peer = try connect(sendBuffer: sendBuffer, client: client)
        send(
            "GET \(path) HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\(headers)\r\n",
            from: peer)
        return peer
    }

    func eventStream(_ path: String) throws -> Peer {
        try connect("GET \(path) HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
    }

    func longPoll(_ path: String) throws -> Peer {
        try connect("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
    }

    // MARK: The feed

    /// What the loop has asked the feed since the last call.
    func asked() -> [String] {
        var messages: [FeedMessage] = []
        shared.feedMailbox.take(into: &messages)
        return messages.map { message in
            switch message {
            case .attach(let topic, _, let needs):
                "attach \(topic.id)" + (needs.contains(.state) ? " state" : "")
                    + (needs.contains(.log) ? " log" : "")
            case .detach(let topic, _): "detach \(topic.id)"
            case .viewers: "viewers"
            case .listTopics: "list topics"
            case .prepare(let topics, _): "prepare \(topics.count)"
            case .stopCountingViewers, .countViewers: "count viewers"
            case .topologyChanged: "topology changed"
            case .inspect: "inspect"
            }
        }
    }

    static func event(
        _ sequence: UInt64, type: String = "BID_UPDATE", padding: Int = 0
    ) -> EncodedEvent {
        let json =
            #"{"type":"\#(type)","auction_id":"a","seq":\#(sequence)"#
            + #","x":"\#(String(repeating: "x", count: padding))"}"#
        let frame = WebSocketFrame.encode(.text, Array(json.utf8)[...])
        return EncodedEvent(
            sequence: sequence, cursor: sequence == 0 ? nil : sequence,
            treatment: type == "BID_UPDATE" && sequence != 0 ? .conflatable : .lossless,
            endsAuction: type == "AUCTION_ENDED", type: type, frame: frame,
            jsonStart: frame.count - json.utf8.count)
    }

    func attach(
        _ id: String = "a", number: UInt32 = 0, state: UInt64, events: [UInt64] = [], last: UInt64,
        isThorough: Bool = false, isLive: Bool = true
    ) {
        watching.take(
            Fanout.Attachment(
                topic: .auction(id), number: number,
                snapshot: Snapshot(sequence: state, state: Array(#"{"title":"T"}"#.utf8), isEnded: false),
                events: events.map { Self.event($0) }, last: last, isThorough: isThorough, isLive: isLive))
        turnUntilIdle()
    }

    func deliver(_ event: EncodedEvent) {
        watching.take(event, number: 0)
        turnUntilIdle()
    }

    /// A WebSocket that watches auction `a` and has had its first message.
    func watcher(
        at sequence: UInt64 = 5, sendBuffer: Int32? = nil, client: TLSClientContext? = nil
    ) throws -> Peer {
        let peer = try webSocket("/v1/auctions/a/live", sendBuffer: sendBuffer, client: client)
        if connections[peer.slot].phase == .joining { attach(state: sequence, last: sequence) }
        _ = peer.received()
        return peer
    }
}

/// The client's end of a connection.
final class Peer {
    let slot: UInt32
    let token: UInt64
    let descriptor: Int32
    /// The client's TLS session; `nil` on a plain connection.
    var session: TLSSession?
    private var isClosed = false

    init(slot: UInt32, token: UInt64, descriptor: Int32) {
        self.slot = slot
        self.token = token
        self.descriptor = descriptor
    }

    deinit {
        session?.free()
        if !isClosed { close(descriptor) }
    }

    func hangUp() {
        isClosed = true
        close(descriptor)
    }

    /// What has arrived since the last call, at most `limit` bytes.
    func bytes(limit: Int = .max) -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while all.count < limit {
            let outcome = buffer.withUnsafeMutableBytes {
                let part = UnsafeMutableRawBufferPointer(rebasing: $0.prefix(limit - all.count))
                return session?.receive(into: part) ?? Sockets.receive(descriptor, into: part)
            }
            guard case .bytes(let count) = outcome else { break }
            all += buffer[..<count]
        }
        return all
    }

    func received() -> String {
        String(decoding: bytes(), as: UTF8.self)
    }

    /// The sequence numbers of the events that have arrived, each as `from-to` where it was merged.
    func sequences(in text: String) -> [String] {
        text.matches(of: /\{(?:"from_seq":(\d+),)?"type":"[A-Z_]+","auction_id":"a","seq":(\d+)/).map {
            match in
            match.1.map { "\($0)-\(match.2)" } ?? String(match.2)
        }
    }
}
