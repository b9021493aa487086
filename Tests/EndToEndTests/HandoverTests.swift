import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import TestSupport
import Testing

extension EndToEndTests {
    /// A new gateway process that takes listeners and connections from the old one.
    @Suite(.serialized) struct Handover {
        let redis: RedisServer
        let socket = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).sock"

        init() throws {
            redis = try RedisServer()
        }

        private func gateway(_ arguments: [String] = []) throws -> GatewayProcess {
            try GatewayProcess(redis: [redis.url], arguments: ["--takeover-socket", socket] + arguments)
        }

        private static func event(_ sequence: Int, filler: Int = 0) -> String {
            let text = String(repeating: "x", count: filler)
            return #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence),"f":"\#(text)"}"#
        }

        private func publish(_ range: ClosedRange<Int>, filler: Int = 0) throws {
            let client = try redis.client()
            for sequence in range {
                let event = Self.event(sequence, filler: filler)
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event)
                _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":\#(sequence),"status":"active"}"#)
                _ = try client.call("PUBLISH", RedisKeys.channel("a1"), event)
            }
        }

        /// Every transport whose connections move.
        private static let moving = WatchTransport.allCases.filter { !$0.isSecure }

        // MARK: Releases

        @Test(
            "releases in a row under a disorderly feed: nobody is disconnected, nothing is lost or repeated")
        func releases() throws {
            let seed = UInt64.random(in: 0 ... .max)
            print("hand-over: seed \(seed)")
            let first = try gateway()
            let publisher = Publisher(
                auctionID: "a1", redisURL: redis.url, fillerBytes: 200,
                generator: SeededGenerator(seed: seed))
            publisher.publishNext(Disorder())
            let watchers = try (Self.moving + Self.moving).map { try first.watch("a1", over: $0) }
            for watcher in watchers { _ = try watcher.next() }
            let isOver = Locked(false)
            let carried = watchers.map(Carried.init)
            let carriedPublisher = CarriedPublisher(value: publisher)
            let disorder = Disorder(repeats: 7, losses: 9, swaps: 8)
            let serving = Locked(Carrying(gateway: first))
            _ = try together(watchers.count + 2) { index in
                if index < carried.count {
                    try eventually("the watcher has the end", within: 60) {
                        try carried[index].value.nextIfAny(within: 5)?.type == "AUCTION_ENDED"
                    }
                } else if index == carried.count {
                    while !isOver.with({ $0 }) {
                        carriedPublisher.value.publishNext(disorder)
                        Clock.pause(milliseconds: 3)
                    }
                    try eventually("the end is published") { carriedPublisher.value.finish() }
                } else {
                    defer { isOver.with { $0 = true } }
                    for _ in 0..<4 { try serving.with { $0.gateway = try $0.gateway.handOver() } }
                }
            }
            for watcher in watchers {
                try watcher.checkPromises()
                #expect(watcher.cursor == publisher.truth.sequence, "\(watcher.transport)")
                let repeated = watcher.messages.dropFirst().filter { $0.type == "RESUMED" }
                #expect(repeated.isEmpty, "\(watcher.transport) noticed")
            }
            // A poll between two requests moves too.
            #expect(
                try serving.with { $0 }.gateway.metric("gavelcast_connections_taken_total") == watchers.count)
        }

        /// Used by one thread after another.
        private struct Carrying: Sendable {
            nonisolated(unsafe) var gateway: GatewayProcess
        }

        /// Used by one thread after another.
        private struct CarriedPublisher: Sendable {
            nonisolated(unsafe) let value: Publisher
        }

        @Test("a watcher goes on without a word about the move")
        func silence() throws {
            let old = try gateway()
            try publish(1...3)
            let watchers = try Self.moving.filter { $0.form != .longPoll }.map {
                try old.watch("a1", over: $0)
            }
            for watcher in watchers { #expect(try watcher.next().type == "SNAPSHOT") }
            let new = try old.handOver()
            try publish(4...6)
            for watcher in watchers {
                for sequence in 4...6 { #expect(try watcher.next().text == Self.event(sequence)) }
            }
            #expect(try new.metric("gavelcast_snapshots_total") == 0)
            #expect(try new.metric("gavelcast_resumes_total") == 0)
        }

        @Test("a client's cut messages and requests go on where they were cut")
        func cutInput() throws {
            let old = try gateway()
            try publish(1...1)
            let many = try WebSocketClient(port: old.port, path: "/v1/live")
            // One frame of a text message in two, and half of the second.
            let message = Array(#"{"type":"SUBSCRIBE","auction_id":"a1"}"#.utf8)
            let first = WebSocketClient.frame(0x1, Array(message[..<7]), isFinal: false)
            let second = WebSocketClient.frame(0x0, Array(message[7...]))
            try many.send(first + second[..<13])
            let head = "GET /v1/time HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaa\r\n\r\n"
            let request = try BlockingSocket(port: old.port)
            try request.send(Array(head.utf8.prefix(20)))
            let idle = HTTPClient(port: old.port)
            #expect(try idle.request("GET", "/v1/time").status == 200)
            try eventually("the gateway has read the parts") {
                try old.metric("gavelcast_connections") >= 3
            }
            let new = try old.handOver()
            try many.send(Array(second[13...]))
            let answer = try many.next()
            guard case .text(let text)? = answer else {
                Issue.record("\(answer.map { "\($0)" } ?? "nothing") in answer to a message in parts")
                return
            }
            #expect(try Received(text).type == "SNAPSHOT")
            try request.send(Array(head.utf8.dropFirst(20)))
            let reply = try #require(try request.receive(milliseconds: 10_000))
            #expect(String(decoding: reply, as: UTF8.self).hasPrefix("HTTP/1.1 200"))
            #expect(try idle.request("GET", "/v1/time").status == 200, "an idle connection stays usable")
            #expect(try new.metric("gavelcast_connections_taken_total") == 3)
        }

        @Test("full sockets move byte for byte, and what waited for them comes in order")
        func fullSockets() throws {
            let old = try gateway(["--send-buffer-bytes", "4608", "--slow-deadline-seconds", "60"])
            try publish(1...1)
            // The filler compresses to nothing.
            let watchers = try Self.moving.filter { $0.form != .longPoll && !$0.deflates }.map {
                try old.watch("a1", over: $0, receiveBufferBytes: 4_096)
            }
            for watcher in watchers { _ = try watcher.next() }
            // Lossless, so that nothing merges.
            let client = try redis.client()
            let filler = String(repeating: "y", count: 4_000)
            for sequence in 2...14 {
                let event =
                    #"{"type":"NOTE","auction_id":"a1","seq":\#(sequence),"f":"\#(filler)"}"#
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event)
                _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":\#(sequence),"status":"active"}"#)
                _ = try client.call("PUBLISH", RedisKeys.channel("a1"), event)
            }
            try eventually("sockets are full") { try old.metric("gavelcast_backlogs") == watchers.count }
            let new = try old.handOver()
            #expect(try new.metric("gavelcast_connections_taken_total") == watchers.count)
            for watcher in watchers {
                for sequence in 2...14 {
                    let message = try watcher.next()
                    #expect(message.sequence == sequence && message.json["f"] as? String == filler)
                }
            }
        }

        // MARK: What cannot move

        @Test("watchers over TLS are told to come back, and do so at the new process")
        func secure() throws {
            let old = try gateway()
            try publish(1...1)
            let watcher = try old.watch("a1", over: .secureWebSocket)
            _ = try watcher.next()
            let new = try GatewayProcess(
                redis: [redis.url], arguments: ["--takeover-socket", socket], predecessor: old)
            var code: UInt16?
            while case let message? = try watcher.socket.next() {
                if case .close(let given, _) = message {
                    code = given
                    break
                }
            }
            #expect(code == 1_001)
            let back = try new.watch("a1", over: .secureWebSocket, since: 1)
            #expect(try back.next().type == "RESUMED")
        }

        @Test("a new process that cannot read Redis takes nothing, and the old one serves on")
        func withoutRedis() throws {
            let old = try gateway()
            try publish(1...1)
            let watcher = try old.watch("a1")
            _ = try watcher.next()
            let port = try Ports.free()
            let new = try GatewayProcess(
                redis: ["redis://127.0.0.1:\(port)"], arguments: ["--takeover-socket", socket],
                predecessor: old)
            try eventually("the new process ends", within: 40) { !new.process.isRunning }
            #expect(new.process.log.contains("cannot take over; the running gateway keeps serving"))
            try publish(2...2)
            #expect(try watcher.next().sequence == 2)
            #expect(try old.watch("a1").next().type == "SNAPSHOT")
        }

        // MARK: A new process that fails

        /// The bytes of a message of numbers.
        private static func message(_ numbers: UInt64...) -> [UInt8] {
            numbers.flatMap { number in withUnsafeBytes(of: number.littleEndian) { Array($0) } }
        }

        private func connect() throws -> DescriptorSocket {
            let address = try #require(SocketAddress(path: socket))
            let connected = try #require(try DescriptorSocket.connect(to: address))
            connected.setPatience(seconds: 20)
            return connected
        }

        @Test("a process of another version is refused with a reason, and the old one serves on")
        func otherVersion() throws {
            let old = try gateway()
            let connection = try connect()
            try connection.send(Self.message(0, 99))
            let answer = try #require(try connection.receive(atMost: 1_000))
            #expect(answer.bytes.starts(with: Self.message(1)))
            #expect(String(decoding: answer.bytes[16...], as: UTF8.self) == "it speaks version 1 and not 99")
            #expect(try old.get("/v1/time").status == 200)
            // Noise ends the attempt, and the next one is heard.
            try connect().send([1, 2, 3])
            let next = try connect()
            try next.send(Self.message(0, 99))
            #expect(try next.receive(atMost: 1_000) != nil)
        }

        @Test(
            "a new process that dies: the old one keeps what was not confirmed, and serves on",
            arguments: [0, 1, 2])
        func death(confirmedBatches: Int) throws {
            let old = try gateway(["--workers", "1"])
            try publish(1...1)
            let watchers = try (0..<500).map {
                try old.watch("a1", over: $0 % 2 == 0 ? .webSocket : .eventStream)
            }
            for watcher in watchers { _ = try watcher.next() }
            var taken: [Int32] = []
            do {
                let connection = try connect()
                try connection.send(Self.message(0, 1))
                let welcome = try #require(try connection.receive(atMost: 1 << 20))
                taken += welcome.descriptors
                // Ready, for the plain listeners and the admin listener.
                try connection.send(Self.message(3, 2, 0, 2))
                for _ in 0..<confirmedBatches {
                    taken += try #require(try connection.receive(atMost: 1 << 20)).descriptors
                    try connection.send(Self.message(5))
                }
                // This one is never confirmed.
                taken += try #require(try connection.receive(atMost: 1 << 20)).descriptors
            }
            for descriptor in taken { Sockets.close(descriptor) }
            let lost = confirmedBatches * 192
            try eventually("the old process has its connections again") {
                try old.metric("gavelcast_watchers{transport=\"websocket\"}")
                    + old.metric("gavelcast_watchers{transport=\"sse\"}") == watchers.count - lost
            }
            try publish(2...3)
            var served = 0
            for watcher in watchers {
                guard let message = try? watcher.next() else { continue }
                served += 1
                #expect(message.sequence == 2)
                #expect(try watcher.next().sequence == 3)
            }
            #expect(served == watchers.count - lost)
            // Newcomers and the next process are served.
            #expect(try old.watch("a1").next().type == "SNAPSHOT")
            _ = try old.handOver()
        }

        /// Greets the gateway as a new process would, and takes over the listeners.
        /// - Returns: descriptors that the test must close.
        private func begin(_ connection: DescriptorSocket) throws -> [Int32] {
            try connection.send(Self.message(0, 1))
            let welcome = try #require(try connection.receive(atMost: 1 << 20))
            try connection.send(Self.message(3, 2, 0, 2))
            return welcome.descriptors
        }

        /// Stops a gateway and lets it go on, which interrupts the calls that its threads are in.
        private func interrupt(_ gateway: GatewayProcess) throws {
            gateway.process.kill(SIGSTOP)
            try eventually("it stands still") {
                let status = try String(
                    contentsOfFile: "/proc/\(gateway.process.pid)/stat", encoding: .utf8)
                return status.contains(") T ")
            }
            gateway.process.kill(SIGCONT)
        }

        @Test("SIGTERM in the middle of a hand-over waits for its end; then everybody is told to leave")
        func drainMeanwhile() throws {
            let old = try gateway()
            try publish(1...1)
            let watchers = try (0..<20).map { _ in try old.watch("a1") }
            for watcher in watchers { _ = try watcher.next() }
            var descriptors: [Int32] = []
            do {
                let connection = try connect()
                descriptors = try begin(connection)
                descriptors += try #require(try connection.receive(atMost: 1 << 20)).descriptors
                old.process.kill(SIGTERM)
                // A stop and its end interrupt the call that waits for the confirmation.
                try interrupt(old)
                try publish(2...2)
            }
            for descriptor in descriptors { Sockets.close(descriptor) }
            for watcher in watchers {
                var code: UInt16?
                var sequences: [Int] = []
                while code == nil, let message = try watcher.socket.next() {
                    switch message {
                    case .text(let text): sequences.append(try Received(text).sequence)
                    case .close(let given, _): code = given
                    default: break
                    }
                }
                #expect(code == 1_001 && (sequences == [2] || sequences.isEmpty))
            }
            try eventually("the drained gateway ends") { !old.process.isRunning }
        }

        @Test(
            "a stopped and continued process waits on for the confirmation, and serves nobody who has moved")
        func interrupted() throws {
            let old = try gateway()
            try publish(1...1)
            let watcher = try old.watch("a1")
            _ = try watcher.next()
            let connection = try connect()
            var descriptors = try begin(connection)
            descriptors += try #require(try connection.receive(atMost: 1 << 20)).descriptors
            try interrupt(old)
            try connection.send(Self.message(5))
            // Nothing more comes, which is confirmed too.
            #expect(try connection.receive(atMost: 1 << 20)?.bytes == Self.message(6))
            try connection.send(Self.message(5))
            try eventually("the old process ends") { !old.process.isRunning }
            try publish(2...2)
            #expect(try watcher.nextIfAny(within: 0.3) == nil)
            for descriptor in descriptors { Sockets.close(descriptor) }
        }

        @Test("a process that may not open so many files takes nothing, and says so")
        func tooFewFiles() throws {
            let old = try gateway()
            let watchers = try (0..<300).map { _ in try old.watch("a1") }
            for watcher in watchers { _ = try watcher.next() }
            let new = try GatewayProcess(
                redis: [redis.url], arguments: ["--takeover-socket", socket],
                launcher: ["/bin/sh", "-c", "ulimit -n 400; exec \"$@\"", "sh"], predecessor: old)
            try eventually("the new process ends") { !new.process.isRunning }
            #expect(new.process.log.contains("it has 300 connections, the limit on open files allows"))
            try publish(1...1)
            for watcher in watchers { #expect(try watcher.next().sequence == 1) }
        }

        // MARK: What surrounds it

        @Test("the files of Unix sockets belong to the process that serves them, and go with the last one")
        func socketFiles() throws {
            let path = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).http"
            let arguments = ["--takeover-socket", socket, "--listen", "unix:\(path)"]
            func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
            let old = try GatewayProcess(redis: [redis.url], arguments: arguments)
            // It cannot read Redis, and is stopped while it tries.
            let port = try Ports.free()
            let cancelled = try GatewayProcess(
                redis: ["redis://127.0.0.1:\(port)"], arguments: arguments, predecessor: old)
            try eventually("it takes over") { cancelled.process.log.contains("taking over") }
            cancelled.process.kill(SIGTERM)
            try eventually("it ends") { !cancelled.process.isRunning }
            #expect(exists(path) && exists(socket) && old.process.isRunning)
            let new = try old.handOver()
            #expect(exists(path) && exists(socket))
            new.process.kill(SIGTERM)
            try eventually("the last process ends") { !new.process.isRunning }
            #expect(!exists(path) && !exists(socket))
        }

        @Test("viewers are never counted twice")
        func viewers() throws {
            let old = try gateway(["--viewers-seconds", "1"])
            let watchers = try (0..<8).map { _ in try old.watch("a1") }
            let count = { (message: Received) in message.json["count"] as? Int }
            try watchers[0].until { count($0) == 8 }
            let new = try old.handOver()
            let ninth = try new.watch("a1")
            try watchers[0].until { count($0) == 9 }
            let told = watchers[0].messages.compactMap(count)
            #expect(told.allSatisfy { $0 <= 9 }, "\(told)")
            ninth.close()
        }
    }
}
