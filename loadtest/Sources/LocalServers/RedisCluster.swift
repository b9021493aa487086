// A private Redis Cluster: masters, each with a replica, that a test may kill, move slots between, and grow.

import Foundation
import RedisLink

package final class RedisCluster {
    /// Every node ever started, masters first.
    package private(set) var nodes: [RedisServer] = []
    /// Where the nodes talk to each other, by port.
    private var busPorts: [Int: Int] = [:]
    /// How long a node must be silent before the others replace it.
    private static let nodeTimeout = 1_000

    /// - Parameters:
    ///   - masters: nodes that share the slots evenly.
    ///   - hasReplicas: whether each master has a replica, in the same order behind the masters.
    package init(masters: Int = 3, hasReplicas: Bool = true, arguments: [String] = []) throws {
        self.arguments = arguments
        self.masters = masters
        for _ in 0..<masters { try addNode() }
        let share = RedisSlots.count / masters
        for (index, node) in nodes.enumerated() {
            let end = index == masters - 1 ? RedisSlots.count : (index + 1) * share
            try node.accept("CLUSTER", "ADDSLOTSRANGE", "\(index * share)", "\(end - 1)")
        }
        if hasReplicas {
            for master in nodes {
                let replica = try addNode()
                try follow(replica, master)
            }
        }
        try eventually("the cluster takes commands") { try self.nodes.allSatisfy(self.isSettled) }
    }

    private let arguments: [String]
    /// How many nodes begin with slots.
    private let masters: Int

    package var url: String {
        "redis+cluster://" + nodes.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
    }

    /// Starts a node without slots, which the others know.
    @discardableResult
    package func addNode() throws -> RedisServer {
        let bus = try Ports.free()
        let node = try RedisServer(
            arguments: [
                "--cluster-port", "\(bus)",
                "--cluster-enabled", "yes", "--cluster-config-file", "nodes-\(UUID().uuidString).conf",
                "--cluster-node-timeout", "\(Self.nodeTimeout)", "--repl-diskless-sync-delay", "0",
                "--cluster-allow-replica-migration", "no",
            ] + arguments)
        nodes.append(node)
        busPorts[node.port] = bus
        for other in nodes.dropLast() where other.isAnswering {
            try node.accept("CLUSTER", "MEET", "127.0.0.1", "\(other.port)", "\(busPorts[other.port] ?? 0)")
        }
        try eventually("the nodes know each other") {
            let running = self.nodes.filter(\.isAnswering)
            return try running.allSatisfy { try self.known(to: $0) >= running.count }
        }
        if nodes.count > masters {
            try eventually("the new node sees the cluster") { try self.isSettled(node) }
        }
        return node
    }

    /// Makes `replica` a copy of `master`.
    package func follow(_ replica: RedisServer, _ master: RedisServer) throws {
        let id = try id(of: master)
        try eventually("the replica knows its master") {
            try replica.client().call("CLUSTER", "REPLICATE", id) == .status("OK")
        }
        try eventually("the replica follows") {
            try self.info(replica, "REPLICATION").contains("master_link_status:up")
        }
    }

    package func id(of node: RedisServer) throws -> String {
        String(decoding: try node.client().call("CLUSTER", "MYID").bytes ?? [], as: UTF8.self)
    }

    /// The node that serves `slot`, as the running nodes see it.
    package func owner(of slot: Int) throws -> RedisServer {
        for node in nodes where node.isAnswering {
            for entry in try node.client().call("CLUSTER", "SLOTS").array ?? [] {
                guard let parts = entry.array, let first = parts[0].integer, let last = parts[1].integer,
                    Int(first) <= slot, slot <= Int(last), let port = parts[2].array?[1].integer
                else { continue }
                if let owner = nodes.first(where: { $0.port == Int(port) }) { return owner }
            }
        }
        throw ServerFailure(description: "no node serves slot \(slot)")
    }

    /// Moves a slot as `redis-cli --cluster reshard` does.
    /// - Parameter whileOpen: called when the keys have moved and the slot has not.
    package func move(slot: Int, to target: RedisServer, whileOpen: () throws -> Void = {}) throws {
        let source = try owner(of: slot)
        guard source !== target else { return }
        let (sourceID, targetID) = (try id(of: source), try id(of: target))
        try target.accept("CLUSTER", "SETSLOT", "\(slot)", "IMPORTING", sourceID)
        try source.accept("CLUSTER", "SETSLOT", "\(slot)", "MIGRATING", targetID)
        let client = try source.client()
        while let keys = try client.call("CLUSTER", "GETKEYSINSLOT", "\(slot)", "10").array, !keys.isEmpty {
            let names = keys.compactMap { $0.bytes.map { String(decoding: $0, as: UTF8.self) } }
            let move = ["MIGRATE", "127.0.0.1", "\(target.port)", "", "0", "5000", "KEYS"] + names
            let reply = try client.call(move.map { Array($0.utf8) })
            if let refusal = reply.refusal { throw ServerFailure(description: refusal.text) }
        }
        try whileOpen()
        for node in [target, source] + nodes where node.isAnswering {
            // A replica takes no such command, and learns of it.
            _ = try node.client().call("CLUSTER", "SETSLOT", "\(slot)", "NODE", targetID)
        }
    }

    /// Moves every slot of `source`.
    package func moveAll(from source: RedisServer, to target: RedisServer) throws {
        let targetID = try id(of: target)
        // Clients may write to a slot before its turn comes.
        for _ in 0..<10 {
            let own = try slots(of: source)
            if own.isEmpty { return }
            let counts = try source.client().pipeline(own.map { ["CLUSTER", "COUNTKEYSINSLOT", "\($0)"] })
            let empty = zip(own, counts).filter { $1.integer == 0 }.map(\.0)
            for slot in Set(own).subtracting(empty).sorted() { try move(slot: slot, to: target) }
            let commands = empty.map { ["CLUSTER", "SETSLOT", "\($0)", "NODE", targetID] }
            for node in [target, source] + nodes where node.isAnswering {
                _ = try node.client().pipeline(commands)
            }
        }
        throw ServerFailure(description: "port \(source.port) still serves slots")
    }

    private func slots(of node: RedisServer) throws -> [Int] {
        try (node.client().call("CLUSTER", "SLOTS").array ?? []).flatMap { entry -> [Int] in
            guard let parts = entry.array, let first = parts[0].integer, let last = parts[1].integer,
                parts[2].array?[1].integer == Int64(node.port)
            else { return [] }
            return Array(Int(first)...Int(last))
        }
    }

    /// The running replica of `master`.
    package func replica(of master: RedisServer) throws -> RedisServer? {
        return try nodes.first { node in
            guard node.isAnswering, node !== master else { return false }
            let role = try node.client().call("ROLE").array
            return role?.first?.bytes == Array("slave".utf8) && role?[2].integer == Int64(master.port)
        }
    }

    /// True when `node` sees all slots served.
    package func isSettled(_ node: RedisServer) throws -> Bool {
        let info = try node.client().call("CLUSTER", "INFO").bytes ?? []
        let text = String(decoding: info, as: UTF8.self)
        return text.contains("cluster_state:ok") && text.contains("cluster_slots_ok:\(RedisSlots.count)")
    }

    private func known(to node: RedisServer) throws -> Int {
        let text = String(decoding: try node.client().call("CLUSTER", "NODES").bytes ?? [], as: UTF8.self)
        return text.split(separator: "\n").count { !$0.contains("handshake") && !$0.contains("fail") }
    }

    private func info(_ node: RedisServer, _ section: String) throws -> String {
        String(decoding: try node.client().call("INFO", section).bytes ?? [], as: UTF8.self)
    }
}
