import Reactor
import RedisLink
import TestSupport
import Testing

@Suite struct RedisLinkTests {
    private static func server(_ text: String) throws -> (host: String, port: UInt16, access: RedisAccess) {
        let url = try RedisURL(text: text)
        var place: SocketAddress?
        if case .server(let address) = url.place { place = address }
        let address = try #require(place)
        return (address.path ?? address.host, address.port, url.access)
    }

    @Test("addresses are read with their parts")
    func readsURLs() throws {
        let plain = try Self.server("redis://localhost")
        #expect(plain.host == "localhost" && plain.port == 6_379)
        #expect(plain.access.password == nil && plain.access.database == 0)
        let full = try Self.server("redis://user:p@ss:w@127.0.0.1:7000/3")
        #expect(full.access.user == "user" && full.access.password == "p@ss:w")
        #expect(full.port == 7_000 && full.access.database == 3)
        #expect(try Self.server("redis://:secret@[::1]:7000").host == "::1")
        let encoded = try Self.server("redis://us%3Aer:p%3F%2F%40%25ss@h/2").access
        #expect(encoded.user == "us:er" && encoded.password == "p?/@%ss" && encoded.database == 2)
        #expect(try Self.server("unix:///run/redis.sock").host == "/run/redis.sock")
        let socket = try Self.server("unix://me:pw@/run/my%20redis?database=4")
        #expect(socket.host == "/run/my redis" && socket.access.user == "me" && socket.access.database == 4)
    }

    @Test("addresses of Sentinels and clusters are read with all their hosts")
    func readsTopologies() throws {
        let sentinel = try RedisURL(text: "redis+sentinel://app:pw@s1,s2:26380,[::1]/my%20master/2")
        guard case .sentinels(let hosts, let master, let access) = sentinel.place else {
            Issue.record("no Sentinels")
            return
        }
        #expect(hosts.map(\.description) == ["s1:26379", "s2:26380", "[::1]:26379"])
        #expect(master == "my master" && sentinel.access.database == 2 && sentinel.access.password == "pw")
        #expect(access.user == "app" && access.password == "pw" && access.database == 0)
        let own = try RedisURL(text: "redis+sentinel://:pw@s1/m?sentinel_user=watch&sentinel_password=a%26b")
        guard case .sentinels(_, _, let ownAccess) = own.place else {
            Issue.record("no Sentinels")
            return
        }
        #expect(ownAccess.user == "watch" && ownAccess.password == "a&b" && own.access.password == "pw")
        guard case .cluster(let nodes) = try RedisURL(text: "redis+cluster://:pw@n1:7000,n2").place else {
            Issue.record("no cluster")
            return
        }
        #expect(nodes.map(\.description) == ["n1:7000", "n2:6379"])
    }

    @Test("in a list split at commas, hosts without a scheme belong to the address before them")
    func splitLists() throws {
        let split = "redis+sentinel://:pw@s1:1,s2:2,s3/m".split(separator: ",").map(String.init)
        let urls = try RedisURL.all(split)
        guard urls.count == 1, case .sentinels(let hosts, let master, _) = urls[0].place else {
            Issue.record("\(urls)")
            return
        }
        #expect(hosts.count == 3 && master == "m")
        #expect(try RedisURL.all(["redis://a", "redis://b"]).count == 2)
        for whole in ["unix:///run/redis.sock", "redis+sentinel://s1/m", "redis://a"] {
            #expect(throws: RedisURL.Invalid.self) { try RedisURL.all([whole, "s2:26379"]) }
        }
        _ = try RedisURL(text: "redis+sentinel://s1/m?sentinel_password=p@ss")
        for (list, words) in [
            (["redis://a", "redis://:secret@b:0"], "address 2 has no valid host"),
            (["redis://:secret@b:0"], "the address has no valid host"), ([], "at least one"),
            (["a:1", "redis://b"], "address 1 begins with none"),
        ] {
            do throws(RedisURL.Invalid) {
                _ = try RedisURL.all(list)
                Issue.record("accepted: \(list)")
            } catch {
                #expect(error.description.hasPrefix(words), "\(error)")
            }
        }
    }

    @Test(
        "a password that was not encoded is recognised",
        arguments: [
            "redis+cluster://:p@ss:w/rd@h:1", "redis+cluster://:p#w@h:1", "redis+cluster://:p?w@h:1",
            "redis+sentinel://:p/w@h:1/m", "redis://:p/w@h:1",
        ])
    func unencoded(text: String) {
        let error = #expect(throws: RedisURL.Invalid.self) { try RedisURL(text: text) }
        #expect(error?.description.contains("percent-encode") == true, "\(error?.description ?? "")")
    }

    @Test("only single servers may be several")
    func severalAddresses() throws {
        let (one, cluster) = (try RedisURL(text: "redis://h"), try RedisURL(text: "redis+cluster://h"))
        #expect(RedisURL.fault([one, one]) == nil && RedisURL.fault([cluster]) == nil)
        #expect(RedisURL.fault([]) != nil && RedisURL.fault([one, cluster]) != nil)
    }

    @Test(
        "what is no address is refused without showing the password",
        arguments: [
            "", "localhost", "http://localhost", "redis://", "redis://h:0x", "redis://h:70000", "redis://h/x",
            "redis+tls://:secret@h", "redis://secret@h:1", "rediss://:secret@h?ca=/nowhere",
            "redis://h?ca=/nowhere",
            "rediss://h?x=1", "redis://:sec?ret@h", "redis://:sec/ret@h/0", "redis://:secret%@h",
            "redis://:secret%zz@h",
            "redis://:secret@h:99999", "redis://:secret@h:0", "redis://h/1#secret", "redis://h/0/secret",
            "redis://:secret@h,h2", "unix://", "unix://secret/path", "unix:///path?db=secret",
            "redis+sentinel://:secret@h", "redis+sentinel://:secret@h/", "redis+sentinel://:secret@h,/m",
            "redis+sentinel://h/m?sentinel_user=secret", "redis+sentinel://h/m?sentinel_password=",
            "redis+sentinel://h/m?ca=secret", "redis+cluster://:secret@h/1", "redis+cluster://",
            "redis+cluster://h?sentinel_password=secret",
        ])
    func refusesURLs(text: String) {
        do throws(RedisURL.Invalid) {
            _ = try RedisURL(text: text)
            Issue.record("accepted \(text)")
        } catch {
            for part in ["secret", "ret@", "sec/"] { #expect(!error.description.contains(part), "\(error)") }
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

    @Test("a refused subscription is traced to its channel, and the others are subscribed")
    func tracesRefusals() {
        // A server that confirms or refuses each command as Redis does.
        let denied: Set<String> = ["c3", "c17"]
        var ledger = SubscriptionLedger()
        var waiting = [(0..<20).map { "c\($0)" }]
        var (confirmed, refused): (Set<String>, Set<String>) = ([], [])
        ledger.sentGreeting()
        ledger.confirmed()
        ledger.sentSubscribe(waiting[0])
        ledger.sentUnsubscribe("gone")
        var rounds = 0
        while let channels = waiting.first {
            waiting.removeFirst()
            rounds += 1
            if denied.isDisjoint(with: channels) {
                for channel in channels {
                    confirmed.insert(channel)
                    ledger.confirmed()
                }
            } else {
                switch ledger.refused() {
                case .channel(let channel): refused.insert(channel)
                case .retry(let lists):
                    for list in lists { ledger.sentSubscribe(list) }
                    waiting += lists
                case .greeting, .moved, .unsubscribed, .unexpected: Issue.record("a wrong verdict")
                }
            }
            // The answer to UNSUBSCRIBE.
            if rounds == 1 {
                let isAnswer = ledger.unsubscribed("gone")
                #expect(isAnswer)
            }
        }
        #expect(refused == denied && confirmed.count == 18 && rounds <= 20)
        #expect(ledger.refused() == .unexpected)
    }

    @Test("a subscription that the server ends by itself is not taken for the answer to a command")
    func unsolicitedEnd() {
        var ledger = SubscriptionLedger()
        ledger.sentSubscribe(["a", "b"])
        ledger.sentUnsubscribe("c")
        var answered = [ledger.unsubscribed("c")]  // SUBSCRIBE is not answered yet
        ledger.confirmed()
        answered.append(ledger.unsubscribed("a"))
        ledger.confirmed()
        answered += [ledger.unsubscribed("d"), ledger.unsubscribed("c"), ledger.unsubscribed("c")]
        #expect(answered == [false, false, false, true, false])
        ledger.sentSubscribe(["e"])
        ledger.sentUnsubscribe("f")
        let verdicts = [ledger.refused(hasMoved: true), ledger.refused(hasMoved: true)]
        #expect(verdicts == [.moved(["e"]), .unsubscribed])
        let late = ledger.refused(hasMoved: true)
        #expect(late == .unsubscribed, "the server's own end was taken for the answer")
    }

    @Test(
        "errors about names, about the server and of a cluster are told apart",
        arguments: [
            ("NOPERM this user has no permissions to access one of the channels used as arguments", true),
            ("NOPERM No permissions to access a key", true),
            ("NOPERM this user has no permissions to run the 'mget' command", false),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
            ("READONLY You can't write against a read only replica.", false),
            ("OOM command not allowed", false),
            ("MOVED 866 127.0.0.1:7001", false),
            ("CROSSSLOT Keys in request don't hash to the same slot", false),
            ("LOADING Redis is loading the dataset in memory", false),
        ])
    func tellsErrorsApart(text: String, concernsNames: Bool) {
        let refusal = RedisRefusal(text: text)
        #expect(refusal.concernsNamesOnly == concernsNames && refusal.description.contains(text))
        let isOfCluster = text.hasPrefix("MOVED") || text.hasPrefix("CROSSSLOT")
        #expect(refusal.description.contains("Cluster") == isOfCluster)
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
