import RedisLink
import TestSupport
import Testing

@Suite struct RedisLinkTests {
    @Test("addresses are read with their parts")
    func readsURLs() throws {
        let plain = try RedisURL(text: "redis://localhost")
        #expect(
            plain.host == "localhost" && plain.port == 6_379 && plain.password == nil && plain.database == 0)
        let full = try RedisURL(text: "redis://user:p@ss:w@127.0.0.1:7000/3")
        #expect(full.user == "user" && full.password == "p@ss:w" && full.port == 7_000 && full.database == 3)
        #expect(try RedisURL(text: "redis://:secret@[::1]:7000").host == "::1")
    }

    @Test(
        "what is no address is refused without showing the password",
        arguments: [
            "", "localhost", "http://localhost", "redis://", "redis://h:0x", "redis://h:70000", "redis://h/x",
            "redis+tls://:secret@h", "redis://secret@h:1", "rediss://:secret@h?ca=/nowhere",
            "redis://h?ca=/nowhere",
            "rediss://h?x=1",
        ])
    func refusesURLs(text: String) {
        do throws(RedisURL.Invalid) {
            _ = try RedisURL(text: text)
            Issue.record("accepted \(text)")
        } catch {
            #expect(!error.description.contains("secret"))
        }
    }

    @Test("a reply that announces more than is ever asked for is an error, and takes no memory")
    func hugeArrays() throws {
        for header in ["*444444442\r\n*1\r\n", "*131073\r\n", "*2147483647\r\n"] {
            let codec = RedisCodec()
            try Array(header.utf8).withUnsafeBytes { try codec.feed($0) }
            #expect(throws: RedisCodec.ProtocolError.self) { _ = try codec.next { _ in } }
        }
        let codec = RedisCodec()
        try Array("*2\r\n:1\r\n$2\r\nhi\r\n".utf8).withUnsafeBytes { try codec.feed($0) }
        var reply: RedisReply?
        #expect(try codec.next { reply = RedisReply($0) })
        #expect(reply == .array([.integer(1), .bytes(Array("hi".utf8))]))
    }

    @Test(
        "auctions are placed by rendezvous weight as the contract computes it",
        arguments: [
            ("a1", [0, 1, 1, 3]), ("auc_0123456789abcdef", [0, 0, 2, 6]), ("prv_x", [0, 1, 1, 1]),
            ("usr_1", [0, 1, 1, 1]),
        ])
    func places(id: String, servers: [Int]) {
        #expect([1, 2, 3, 8].map { RedisKeys.server(of: id, count: $0) } == servers)
    }

    @Test("waits grow to the cap, keep their jitter, and begin anew after a reset")
    func backsOff() {
        var generator = SeededGenerator.announced("back-off")
        var backoff = Backoff()
        let first = backoff.next(using: &generator)
        let waits = (0..<100).map { _ in backoff.next(using: &generator) }
        #expect(first <= 20 && waits.allSatisfy { $0 <= Backoff.maximumMilliseconds })
        #expect(Set(waits.suffix(50)).count > 10)
        #expect(waits.suffix(50).allSatisfy { $0 >= Backoff.maximumMilliseconds / 2 })
        backoff.reset()
        #expect(backoff.next(using: &generator) <= 20)
    }
}
