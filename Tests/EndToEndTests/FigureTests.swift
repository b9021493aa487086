import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import Testing

/// Figures for the documentation, printed; `make figures` runs them with release builds. Nothing here is
/// asserted but that everything arrives.
@Suite(.serialized, .enabled(if: ProcessInfo.processInfo.environment["GAVELCAST_FIGURES"] != nil))
struct FigureTests {
    private func bid(_ sequence: Int, filler: Int = 100) -> String {
        let time = Int(Date.now.timeIntervalSince1970 * 1_000)
        let text = String(repeating: "x", count: filler)
        return #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence),"at":\#(time),"f":"\#(text)"}"#
    }

    /// Publishes 1,000 events a second, by the clock, until `count` are out.
    private static func publishSteadily(
        _ url: String, count: Int, _ event: @escaping @Sendable (Int) -> String
    ) {
        Thread {
            guard let client = try? RedisClient(url: RedisURL(text: url)) else { return }
            let start = Date.now
            var sent = 0
            let pause = DispatchSemaphore(value: 0)
            while sent < count {
                let due = min(count, Int(Date.now.timeIntervalSince(start) * 1_000))
                if due > sent {
                    let commands = (sent + 1...due).map { ["PUBLISH", "auction:a1", event($0)] }
                    _ = try? client.pipeline(commands.map { $0.map { Array($0.utf8) } })
                    sent = due
                }
                _ = pause.wait(timeout: .now() + 0.002)
            }
        }.start()
    }

    @Test("how late 500 auctions of one second end, beside 100,000 that run on")
    func endings() throws {
        let database = try SharedPostgres.database()
        let redis = try RedisServer()
        let apis = try BidAPIProcess.pair(database: database, redis: redis.url)
        _ = try apis[0].user("seller")
        let connection = try PostgresConnection(url: database)
        func insert(_ prefix: String, _ count: Int, endsIn: String) throws {
            try connection.script(
                """
                INSERT INTO auctions (auction_id, seller_id, title, description, category, currency, image_urls,
                    starting_price, increments, starts_at, ends_at, status, current_price, state)
                SELECT '\(prefix)_' || n, (SELECT user_id FROM users LIMIT 1), 't', '', '', 'USD', '{}', 100,
                    '0:100', now(), now() + interval '\(endsIn)', 'active', 100, '{}'
                FROM generate_series(1, \(count)) n
                """)
        }
        try insert("running", 100_000, endsIn: "1 day")
        try insert("ending", 500, endsIn: "3 seconds")
        try eventually("all have ended", within: 60) {
            try connection.query("SELECT 1 FROM auctions WHERE ended_at IS NOT NULL").count == 500
        }
        let lateness = "extract(epoch FROM ended_at - ends_at) * 1000"
        let rows = try connection.query(
            """
            SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY \(lateness))::bigint, max(\(lateness))::bigint
            FROM auctions WHERE ended_at IS NOT NULL
            """)
        let (median, latest) = (try rows.integer(0, 0), try rows.integer(0, 1))
        print("FIGURE endings: \(median) ms late (median), \(latest) ms (latest)")
    }

    @Test("memory of a stalled watcher under 1,000 events a second")
    func stalledWatchers() throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
        let watchers = try (0..<500).map { _ in try gateway.watch("a1", receiveBufferBytes: 4_096) }
        for watcher in watchers { _ = try watcher.next() }
        let before = try gateway.metric("gavelcast_resident_bytes")
        Self.publishSteadily(redis.url, count: 20_000) { [self] in bid($0) }
        var most = 0
        try eventually("all is published", within: 60) {
            most = max(most, try gateway.metric("gavelcast_resident_bytes"))
            return try gateway.metric("gavelcast_events_total") == 20_000
        }
        let stalled = try gateway.metric("gavelcast_backlogs")
        print(
            "FIGURE stalled: \(stalled) of 500 with a backlog; \((most - before) / 500) bytes a watcher at most"
        )
        for watcher in watchers { try watcher.until { $0.sequence == 20_000 } }
        try watchers.forEach { try $0.checkPromises() }
    }

    @Test("age of the newest price at a watcher that reads ten times a second, at 1,000 events a second")
    func slowWatcherAge() throws {
        for buffer in [32_768, 8_192] {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(
                redis: [redis.url], arguments: ["--send-buffer-bytes", "\(buffer)"])
            let socket = try BlockingSocket(port: gateway.port, receiveBufferBytes: 4_096)
            try socket.send(
                Array(
                    ("GET /v1/auctions/a1/live HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                        + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").utf8))
            try eventually("it watches") { try gateway.metric("gavelcast_snapshots_total") == 1 }
            Self.publishSteadily(redis.url, count: 15_000) { [self] in bid($0) }
            let pause = DispatchSemaphore(value: 0)
            var ages: [Int] = []
            var bytes = 0
            let start = Date.now
            while Date.now.timeIntervalSince(start) < 14 {
                _ = pause.wait(timeout: .now() + 0.1)
                guard let chunk = try socket.receive(milliseconds: 1_000) else { continue }
                bytes += chunk.count
                let text = String(decoding: chunk, as: UTF8.self)
                guard let newest = text.matches(of: /"at":(\d{13}),/).last.flatMap({ Int($0.1) }) else {
                    continue
                }
                // The first seconds fill the buffers between them.
                guard Date.now.timeIntervalSince(start) > 4 else { continue }
                ages.append(Int(Date.now.timeIntervalSince1970 * 1_000) - newest)
            }
            ages.sort()
            print(
                "FIGURE slow watcher, send buffer \(buffer): reads \(bytes / 14) bytes a second; newest price "
                    + "\(ages[ages.count / 2]) ms old (median), \(ages[ages.count * 99 / 100]) ms (p99), \(ages.count) reads"
            )
        }
    }

    @Test("CPU of a delivery, by transport: 10,000 watchers of one auction, 100 events of 250 bytes")
    func deliveryCost() throws {
        for (name, fields) in [
            ("WebSocket", Crowd.upgrade), ("event stream", "Accept: text/event-stream\r\n"),
        ] {
            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--workers", "1"])
            let empty = try gateway.metric("gavelcast_resident_bytes")
            let crowd = try Crowd(
                port: gateway.port, path: "/v1/auctions/a1/live", count: 10_000, fields: fields)
            try crowd.wait(for: #""type":"SNAPSHOT""#)
            let memory = (try gateway.metric("gavelcast_resident_bytes") - empty) / 10_000
            let before = try Self.ticks(gateway.process.pid)
            let client = try redis.client()
            for sequence in 1...100 {
                _ = try client.call("PUBLISH", "auction:a1", bid(sequence, filler: 175))
                // One after the other, so that none merge.
                try eventually("all were sent it") {
                    try gateway.metric("gavelcast_deliveries_total") >= sequence * 10_000
                }
            }
            let after = try Self.ticks(gateway.process.pid)
            // Ticks of 10 ms over a million deliveries.
            print(
                "FIGURE \(name): \(Double(after.user - before.user) / 100) s user and "
                    + "\(Double(after.system - before.system) / 100) s system a million deliveries; "
                    + "\(memory) bytes resident a watcher")
            withExtendedLifetime(crowd) {}
        }
    }

    private static func ticks(_ pid: Int32) throws -> (user: Int, system: Int) {
        let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        let fields = text.split(separator: ")").last?.split(separator: " ").compactMap { Int($0) } ?? []
        // Without the state, which is no number, the fields begin with the parent: utime is 14, stime 15
        // (proc(5)).
        return (fields[10], fields[11])
    }

    @Test("from Redis' return to the last of 10,000 watchers")
    func convergence() throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url])
        let crowd = try Crowd(port: gateway.port, path: "/v1/auctions/a1/live", count: 10_000)
        try crowd.wait(for: #""type":"SNAPSHOT""#)
        let pause = DispatchSemaphore(value: 0)
        for round in 1...5 {
            redis.kill()
            try eventually("the gateway says so") { try !gateway.isOK("/readyz") }
            // Long enough for the link's back-off to reach its cap.
            _ = pause.wait(timeout: .now() + 3)
            try redis.start()
            let client = try redis.client()
            // As the relay does: the log, the state and the event that was committed meanwhile, in one step.
            let sequence = round
            let start = Date.now
            let event = bid(sequence)
            let commands = [
                ["MULTI"], ["XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event],
                ["SET", RedisKeys.state("a1"), #"{"seq":\#(sequence),"status":"active"}"#],
                ["PUBLISH", "auction:a1", event], ["EXEC"],
            ]
            _ = try client.pipeline(commands.map { $0.map { Array($0.utf8) } })
            try crowd.wait(for: #""seq":\#(sequence),"#)
            let milliseconds = Int(Date.now.timeIntervalSince(start) * 1_000)
            print(
                "FIGURE convergence: the last of 10,000 watchers had it \(milliseconds) ms after Redis answered"
            )
        }
    }
}

/// Many WebSockets in one thread, of which only matters whether each has received a text.
private final class Crowd {
    private let poller: Poller
    private let sockets: [Int32]
    private var received: [[UInt8]]
    // SAFETY: allocated in init, freed in deinit, used by this thread only.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)

    static let upgrade =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    init(port: Int, path: String, count: Int, fields: String = Crowd.upgrade) throws {
        poller = try Poller()
        var sockets: [Int32] = []
        let request = Array("GET \(path) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n".utf8)
        for index in 0..<count {
            let address = SocketAddress(host: "127.0.0.1", port: UInt16(port))
            let socket = try Sockets.connect(to: address.resolve()[0])
            try eventually("connected") {
                request.withUnsafeBytes { Sockets.send(socket, $0) } == .bytes(request.count)
            }
            try poller.add(socket, .readable, token: UInt64(index))
            sockets.append(socket)
        }
        self.sockets = sockets
        received = sockets.map { _ in [] }
    }

    deinit {
        for socket in sockets { Sockets.close(socket) }
        buffer.deallocate()
    }

    /// Waits until each has received `text`; what came before is forgotten.
    func wait(for text: String) throws {
        let wanted = Array(text.utf8)
        var missing = Set(sockets.indices)
        let deadline = Date.now + 60
        while !missing.isEmpty {
            guard Date.now < deadline else { throw TimedOut(description: "\(missing.count) without \(text)") }
            poller.wait(milliseconds: 1_000) { event in
                let index = Int(event.token)
                guard case .bytes(let count) = Sockets.receive(sockets[index], into: buffer) else { return }
                received[index] += buffer[..<count]
                if received[index].firstRange(of: wanted) != nil {
                    missing.remove(index)
                    received[index] = []
                }
            }
        }
    }
}
