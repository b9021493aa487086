import Reactor
import TestSupport
import Testing

@testable import RedisLink

/// Hash slots, and what the feed and the relay believe of a cluster.
@Suite struct ClusterMapTests {
    private static let a = SocketAddress(host: "a", port: 1)
    private static let b = SocketAddress(host: "b", port: 2)
    private static let c = SocketAddress(host: "c", port: 3)

    private static func map() -> ClusterMap {
        var map = ClusterMap()
        map.take(.init([(0...8_000, a), (8_001...16_383, b)], epoch: 5), now: 0)
        return map
    }

    @Test(
        "keys and channels fall into the slots that the specification and redis-cli name",
        arguments: [
            ("123456789", 12_739), ("foo", 12_182), ("{user1000}.following", 3_443),
            ("{user1000}.followers", 3_443), ("foo{}{bar}", 8_363), ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061), ("", 0),
        ])
    func slots(name: String, slot: Int) {
        #expect(RedisSlots.slot(of: name) == slot)
    }

    @Test("log, state, viewers and channel of one auction share a slot, and a user's limit shares the user's")
    func sharedSlots() {
        for id in ["a1", "prv_x-9", "auc_0123456789"] {
            let names = [
                RedisKeys.log(id), RedisKeys.state(id), RedisKeys.viewers(id), RedisKeys.channel(id),
            ]
            #expect(Set(names.map(RedisSlots.slot)).count == 1)
            #expect(RedisOwner.auction(id).channel == RedisKeys.channel(id))
        }
        let limit = RedisSlots.slot(of: RedisKeys.limit("bids", "u1"))
        #expect(limit == RedisSlots.slot(of: RedisOwner.user("u1").channel))
    }

    @Test("a slot has a tag that hashes to it")
    func tags() throws {
        // Each look-up passes over the slots before, so that all of them would take long.
        for slot in [0, 1, RedisSlots.count - 1] + stride(from: 60, to: RedisSlots.count, by: 61) {
            let tag = try #require(RedisSlots.tag { $0 == slot })
            #expect(RedisSlots.slot(of: "gavelcast:relay:{\(tag)}") == slot)
        }
        #expect(RedisSlots.tag { _ in false } == nil)
    }

    @Test("redirects are read, and other errors are none")
    func redirects() throws {
        let moved = try #require(RedisRedirect(RedisRefusal(text: "MOVED 3999 127.0.0.1:6381")))
        #expect(moved.slot == 3_999 && !moved.isAsk)
        #expect(moved.address(from: Self.a).description == "127.0.0.1:6381")
        let ask = try #require(RedisRedirect(RedisRefusal(text: "ASK 1 ::1:7")))
        #expect(ask.isAsk && ask.address(from: Self.a) == SocketAddress(host: "::1", port: 7))
        let same = try #require(RedisRedirect(RedisRefusal(text: "MOVED 1 :7")))
        #expect(same.address(from: Self.a) == SocketAddress(host: "a", port: 7))
        for text in [
            "MOVED", "MOVED 1", "MOVED x h:1", "MOVED 16384 h:1", "MOVED 1 h:0", "MOVED 1 h", "ERR no",
        ] {
            #expect(RedisRedirect(RedisRefusal(text: text)) == nil)
        }
    }

    @Test("a node's answers become a report, and what is no such answer does not")
    func reports() throws {
        func node(_ host: RedisReply, _ port: Int64) -> RedisReply { .array([host, .integer(port), .null]) }
        let info = RedisReply.bytes(Array("cluster_state:fail\r\ncluster_current_epoch:7\r\n".utf8))
        let slots = RedisReply.array([
            .array([.integer(0), .integer(9), node(.bytes(Array("b".utf8)), 2), node(.null, 9)]),
            .array([.integer(10), .integer(16_383), node(.null, 6)]),
        ])
        let report = try #require(ClusterMap.Report(slots: slots, info: info, from: Self.a))
        #expect(report.epoch == 7 && !report.isHealthy)
        #expect(report.ranges.map(\.address) == [Self.b, SocketAddress(host: "a", port: 6)])
        for wrong in [
            RedisReply.array([]), .null, .error("ERR This instance has cluster support disabled"),
            .array([.array([.integer(5), .integer(4), node(.null, 6)])]),
            .array([.array([.integer(0), .integer(16_384), node(.null, 6)])]),
            .array([.array([.integer(0), .integer(1), node(.null, 70_000)])]),
        ] {
            #expect(ClusterMap.Report(slots: wrong, info: info, from: Self.a) == nil)
        }
    }

    @Test(
        "a redirect moves one slot at once, and stands for a while against nodes that do not know of it yet")
    func redirectsStand() throws {
        var map = Self.map()
        let redirect = try #require(RedisRedirect(RedisRefusal(text: "MOVED 100 c:3")))
        #expect(map.take(redirect, to: Self.c, now: 1_000) == 2)
        #expect(map.owners[100] == 2 && map.owners[101] == 0)
        let old = ClusterMap.Report([(0...8_000, Self.a), (8_001...16_383, Self.b)], epoch: 5)
        map.take(old, now: 1_500)
        #expect(map.owners[100] == 2 && map.members(now: 1_500) == [0, 1, 2])
        map.take(old, now: 1_000 + ClusterMap.redirectMilliseconds)
        #expect(map.owners[100] == 0, "nobody has confirmed the redirect")
    }

    @Test("two nodes that send a slot back and forth change the map only now and then")
    func backAndForth() throws {
        var map = Self.map()
        let there = try #require(RedisRedirect(RedisRefusal(text: "MOVED 100 c:3")))
        let back = try #require(RedisRedirect(RedisRefusal(text: "MOVED 100 a:1")))
        _ = map.take(there, to: Self.c, now: 1_000)
        let settled = 1_000 + ClusterMap.settlingMilliseconds
        #expect(map.take(back, to: Self.a, now: settled - 1) == 0, "this one command may follow")
        #expect(map.owners[100] == 2, "the slot stays")
        _ = map.take(there, to: Self.c, now: settled - 1)
        _ = map.take(back, to: Self.a, now: settled)
        #expect(map.owners[100] == 2, "the redirect was confirmed a moment ago")
        _ = map.take(back, to: Self.a, now: settled - 1 + ClusterMap.settlingMilliseconds)
        #expect(map.owners[100] == 0)
    }

    @Test("a node that only takes part in a migration is known, and forgotten when nothing came of it")
    func guests() throws {
        var map = Self.map()
        let ask = try #require(RedisRedirect(RedisRefusal(text: "ASK 100 c:3")))
        #expect(map.take(ask, to: Self.c, now: 0) == 2)
        #expect(map.owners[100] == 0, "the slot has not moved")
        #expect(map.members(now: ClusterMap.guestMilliseconds - 1) == [0, 1, 2])
        #expect(map.members(now: ClusterMap.guestMilliseconds) == [0, 1])
    }

    @Test("a node keeps its number, and one that serves nothing any more is no member")
    func numbers() {
        var map = Self.map()
        map.take(.init([(0...16_383, Self.b)], epoch: 6), now: 0)
        #expect(map.members(now: 0) == [1] && map.epoch == 6)
        map.take(.init([(0...8_000, Self.a), (8_001...16_383, Self.b)], epoch: 4), now: 0)
        #expect(map.members(now: 0) == [0, 1] && map.epoch == 6)
        #expect(map.nodes == [Self.a, Self.b])
    }
}
