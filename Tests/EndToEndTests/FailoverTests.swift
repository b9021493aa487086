import AuctionStore
import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import Testing

extension EndToEndTests {
    /// A Redis that fails over, or moves its slots, while a thousand watchers follow a hundred bids a second.
    /// No lossless event is lost, no jump is undeclared, nothing comes twice, and no promised bid is lost.
    @Suite(.serialized) struct Failover {
        /// Prints a figure for the docs, and for whoever looks at a slow run.
        /// - Parameter recoveries: steps of the servers' own recovery, and when each was seen.
        private func report(
            _ run: FailoverRun, _ name: String, fault: Int64, recoveries: [(what: String, at: Int64)] = []
        ) throws {
            let outcome = try run.finish()
            let since = recoveries.map { ", \(outcome.level(after: $0.at)) ms after \($0.what)" }.joined()
            print(
                "\(name): level \(outcome.level(after: fault)) ms after the fault\(since); "
                    + "the latest delivery took \(outcome.worstMilliseconds) ms")
            #expect(try run.gateway.isOK("/readyz") && run.api.isOK("/readyz"))
        }

        /// Waits until `server` takes writes; returns when it did.
        private func acceptance(_ what: String, _ server: () throws -> RedisServer?) throws -> Int64 {
            try eventually(what, within: 60) {
                guard let server = try? server(), let client = try? server.client() else { return false }
                // In a cluster, a server that refuses because the key lives elsewhere takes writes, too.
                guard let reply = try? client.call("SET", "accepts", "1") else { return false }
                return reply.refusal.map { $0.text.hasPrefix("MOVED") } ?? true
            }
            return FailoverRun.now()
        }

        // MARK: Sentinel

        enum SentinelFault: CaseIterable, Sendable {
            case killed, paused, commanded, cutOff
        }

        @Test("Sentinels replace the master", arguments: SentinelFault.allCases)
        func sentinel(_ fault: SentinelFault) throws {
            let redis = try RedisSentinels(password: "s3cret")
            let run = try FailoverRun(redis: [redis.url], database: try SharedPostgres.database())
            run.goOn(1.5)
            let master = try redis.current()
            let at = FailoverRun.now()
            switch fault {
            case .killed: master.kill()
            case .paused: master.signal(SIGSTOP)
            case .commanded:
                let reply = try redis.sentinels[0].client().call(
                    "SENTINEL", "FAILOVER", RedisSentinels.master)
                #expect(reply == .status("OK"))
            // The Sentinels and replicas lose the master, and the services do not.
            case .cutOff: try redis.cutOff(master)
            }
            let accepts = try acceptance("a new master takes writes") {
                try redis.servers.first { server in
                    guard server !== master, server.isAnswering else { return false }
                    let role = try server.client().call("ROLE").array?.first?.bytes
                    return role == Array("master".utf8)
                }
            }
            try eventually("a Sentinel names the new master") { try redis.hasReplaced(master) }
            let named = FailoverRun.now()
            run.goOn(3)
            if fault == .paused { master.signal(SIGCONT) }
            run.goOn(1)
            try report(
                run, "Sentinel, \(fault)", fault: at,
                recoveries: [("the new master took writes", accepts), ("a Sentinel named it", named)])
        }

        @Test("what a new master lacks is published again, to those who have read its older state")
        func olderMaster() throws {
            let redis = try RedisServer()
            let api = try BidAPIProcess(database: try SharedPostgres.database(), redis: [redis.url])
            let auction = try api.user("seller").createAuction(
                #"{"title":"Lot","starting_price":10,"bid_increment":1,"duration_seconds":3600}"#)
            let bidders = try [api.user("ava"), api.user("ben")]
            let client = try redis.client()
            func bid(_ amount: Int, sequence: Int) throws {
                #expect(try bidders[amount % 2].bid("\(amount)", on: auction).status == 201)
                try eventually("Redis has event \(sequence)") {
                    let newest = try client.call("XREVRANGE", RedisKeys.log(auction), "+", "-", "COUNT", "1")
                    return newest.array?.first?.array?.first?.bytes == Array("\(sequence)-0".utf8)
                }
            }
            for amount in 10...13 { try bid(amount, sequence: amount - 9) }
            let copies = [RedisKeys.log(auction), RedisKeys.state(auction)]
            for key in copies { _ = try client.call("COPY", key, "\(key):old") }
            try bid(14, sequence: 5)
            // Redis as it was before the last event, as an asynchronous replica may be.
            let database = try PostgresConnection(url: api.databaseURL)
            try eventually("the last event is marked as published") {
                try database.query("SELECT 1 FROM outbox WHERE published_at IS NULL").isEmpty
            }
            for key in copies { _ = try client.call("COPY", "\(key):old", key, "REPLACE") }
            let gateway = try GatewayProcess(redis: [redis.url])
            let watcher = try gateway.watch(auction)
            #expect(try watcher.next().sequence == 4)
            // The relay comes to it as to another server.
            _ = try client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            try watcher.until { $0.sequence == 5 }
            try watcher.checkPromises()
        }

        // MARK: Cluster

        @Test("when two nodes send a topic back and forth, its watchers are told, and no others")
        func backAndForth() throws {
            let redis = try RedisCluster(hasReplicas: false)
            let gateway = try GatewayProcess(redis: [redis.url])
            let slot = RedisSlots.slot(of: RedisKeys.channel("a1"))
            let owner = try redis.owner(of: slot)
            let other = try #require(redis.nodes.first { $0 !== owner })
            let neighbour = try #require(
                try (1...1_000).map { "b\($0)" }.first {
                    try redis.owner(of: RedisSlots.slot(of: RedisKeys.channel($0))) === owner
                })
            let watchers = try [gateway.watch("a1"), gateway.watch(neighbour)]
            for watcher in watchers { #expect(try watcher.next().type == "SNAPSHOT") }
            // The owner gives the slot away, and the other one does not hear of it.
            let command = ["CLUSTER", "SETSLOT", "\(slot)", "NODE", try redis.id(of: other)]
            #expect(try owner.client().pipeline([command]) == [.status("OK")])
            #expect(try !watchers[0].nextFeed().isLive)
            func publish(_ id: String, at node: RedisServer) throws {
                let event = #"{"type":"BID_UPDATE","auction_id":"\#(id)","seq":1}"#
                _ = try node.client().call("SPUBLISH", RedisKeys.channel(id), event)
            }
            try publish(neighbour, at: owner)
            #expect(try watchers[1].next().sequence == 1)
            #expect(watchers[1].feeds == [], "other topics of these nodes are delivered")
            #expect(try other.client().pipeline([command]) == [.status("OK")])
            #expect(try watchers[0].nextFeed().isLive)
            try publish("a1", at: other)
            #expect(try watchers[0].next().sequence == 1)
        }

        enum ClusterFault: CaseIterable, Sendable {
            case masterKilled, masterPaused, commanded, slotsMoved, nodeAdded, nodeRemoved
        }

        @Test("a cluster changes", arguments: ClusterFault.allCases)
        func cluster(_ fault: ClusterFault) throws {
            let redis = try RedisCluster()
            let run = try FailoverRun(redis: [redis.url], database: try SharedPostgres.database())
            run.goOn(1.5)
            let slots = Set(run.auctions.map { RedisSlots.slot(of: RedisKeys.channel($0)) }).sorted()
            let first = try redis.owner(of: slots[0])
            let at = FailoverRun.now()
            var accepts: Int64?
            switch fault {
            case .masterKilled, .masterPaused:
                if fault == .masterKilled { first.kill() } else { first.signal(SIGSTOP) }
                accepts = try acceptance("the replica takes over") {
                    let owner = try redis.owner(of: slots[0])
                    return owner === first ? nil : owner
                }
            case .commanded:
                let replica = try #require(try redis.replica(of: first))
                #expect(try replica.client().call("CLUSTER", "FAILOVER") == .status("OK"))
                accepts = try acceptance("the replica takes over") {
                    let owner = try redis.owner(of: slots[0])
                    return owner === first ? nil : owner
                }
            case .slotsMoved:
                // Each to another node, some of them while they stay open for a moment.
                for (index, slot) in slots.enumerated() {
                    let owner = try redis.owner(of: slot)
                    let target = redis.nodes.prefix(3).first { $0 !== owner }!
                    try redis.move(slot: slot, to: target) { if index % 4 == 0 { run.goOn(0.5) } }
                }
            case .nodeAdded:
                let new = try redis.addNode()
                for slot in slots.prefix(8) { try redis.move(slot: slot, to: new) }
            case .nodeRemoved:
                // With all of its slots, not only those of auctions.
                let target = redis.nodes.prefix(3).first { $0 !== first }!
                try redis.moveAll(from: first, to: target)
                first.kill()
            }
            run.goOn(3)
            if fault == .masterPaused { first.signal(SIGCONT) }
            run.goOn(1)
            try report(
                run, "cluster, \(fault)", fault: at,
                recoveries: accepts.map { [("the new master took writes", $0)] } ?? [])
            let moves = try run.gateway.metric("gavelcast_redis_moves_total")
            #expect(moves > 0)
        }
    }
}
