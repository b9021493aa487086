import Foundation
import LocalServers
import RedisLink
import TestSupport
import Testing

extension EndToEndTests {
    /// The faults of a Redis Cluster and of PostgreSQL, mixed at random while bids and watchers go on. `make
    /// soak` asks for as many rounds as it wants.
    @Suite(
        .serialized, .enabled(if: ProcessInfo.processInfo.environment["GAVELCAST_SOAK_ROUNDS"] != nil))
    struct FailoverMix {
        private enum Fault: CaseIterable {
            case masterKilled, masterPaused, failoverCommanded, slotsMoved, databaseStopped
        }

        @Test("a cluster and a database that fail again and again")
        func mixed() throws {
            let rounds = ProcessInfo.processInfo.environment["GAVELCAST_SOAK_ROUNDS"].flatMap { Int($0) } ?? 1
            var generator = SeededGenerator.announced("failover mix")
            let redis = try RedisCluster()
            let postgres = try PostgresServer()
            let run = try FailoverRun(redis: [redis.url], database: try postgres.database("mix"))
            let slots = Set(run.auctions.map { RedisSlots.slot(of: RedisKeys.channel($0)) }).sorted()
            for _ in 0..<rounds {
                for fault in Fault.allCases.shuffled(using: &generator) {
                    run.goOn(Double.random(in: 0.2...1.5, using: &generator))
                    let slot = slots.randomElement(using: &generator)!
                    try cause(fault, redis, postgres, slot, slots, run, &generator)
                    // Without a replica that has caught up, no node could take over the slots in the next
                    // fault.
                    try eventually("the cluster is whole", within: 60) { try self.isWhole(redis) }
                }
            }
            let outcome = try run.finish()
            print("failover mix, \(rounds) rounds: the latest delivery took \(outcome.worstMilliseconds) ms")
            #expect(try run.gateway.isOK("/readyz") && run.api.isOK("/readyz"))
        }

        private func cause(
            _ fault: Fault, _ redis: RedisCluster, _ postgres: PostgresServer, _ slot: Int, _ slots: [Int],
            _ run: FailoverRun, _ generator: inout SeededGenerator
        ) throws {
            let owner = try redis.owner(of: slot)
            func replaced() throws {
                try eventually("another node serves the slot", within: 60) {
                    try redis.owner(of: slot) !== owner
                }
            }
            switch fault {
            case .masterKilled:
                owner.kill()
                try replaced()
                try owner.start()
            case .masterPaused:
                owner.signal(SIGSTOP)
                try replaced()
                run.goOn(Double.random(in: 0...1, using: &generator))
                owner.signal(SIGCONT)
            case .failoverCommanded:
                let replica = try #require(try redis.replica(of: owner))
                #expect(try replica.client().call("CLUSTER", "FAILOVER") == .status("OK"))
                try replaced()
            case .slotsMoved:
                let owners = try slots.map(redis.owner)
                for slot in slots.shuffled(using: &generator).prefix(6) {
                    guard let target = owners.randomElement(using: &generator) else { continue }
                    try redis.move(slot: slot, to: target) {
                        run.goOn(Double.random(in: 0...0.3, using: &generator))
                    }
                }
            case .databaseStopped:
                postgres.stopImmediately()
                run.goOn(Double.random(in: 0...0.5, using: &generator))
                try postgres.start()
            }
        }

        /// True when all slots are served, and the master of each sampled slot has a connected replica.
        private func isWhole(_ redis: RedisCluster) throws -> Bool {
            let owners = try [0, RedisSlots.count / 2, RedisSlots.count - 1].map(redis.owner)
            return try redis.nodes.allSatisfy(redis.isSettled)
                && owners.allSatisfy { owner in
                    let role = try owner.client().call("ROLE").array
                    return role?.count == 3 && role?[2].array?.isEmpty == false
                }
        }
    }
}
