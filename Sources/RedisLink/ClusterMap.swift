// Which node of a Redis Cluster serves each slot. Pure: ``ClusterWatch`` asks the nodes, and this value keeps
// what they said. A recent redirect outweighs a node's report.

package import Reactor

/// Where an error reply sends a command of a cluster.
package struct RedisRedirect: Sendable, Equatable {
    package let slot: Int
    /// The host is empty when it is the one that answered.
    package let host: String
    package let port: UInt16
    /// True for ASK: this one command only, behind ASKING. False for MOVED: the whole slot, from now on.
    package let isAsk: Bool

    /// Reads `MOVED 3999 127.0.0.1:6381` or `ASK 3999 127.0.0.1:6381`; `nil` for any other error.
    package init?(_ refusal: RedisRefusal) {
        let parts = refusal.text.split(separator: " ")
        guard parts.count >= 3, parts[0] == "MOVED" || parts[0] == "ASK", let slot = Int(parts[1]),
            (0..<RedisSlots.count).contains(slot), let colon = parts[2].lastIndex(of: ":"),
            let port = UInt16(parts[2][parts[2].index(after: colon)...]), port > 0
        else { return nil }
        self.slot = slot
        host = String(parts[2][..<colon])
        self.port = port
        isAsk = parts[0] == "ASK"
    }

    /// - Parameter origin: the server that answered.
    package func address(from origin: SocketAddress) -> SocketAddress {
        SocketAddress(host: host.isEmpty ? origin.host : host, port: port)
    }
}

struct ClusterMap: Sendable, Equatable {
    /// How long a redirect is believed more than the map of a node that may not have heard of it yet.
    static let redirectMilliseconds: Int64 = 2_000
    /// How long a redirect of a slot outweighs a later one to another node. Two nodes that disagree may send
    /// commands back and forth.
    static let settlingMilliseconds: Int64 = 200
    /// How long a node that a redirect has named stays known without a slot of its own.
    static let guestMilliseconds: Int64 = 30_000

    /// What one node said: ranges of slots and the address of the master that serves them.
    struct Report: Equatable {
        var ranges: [(slots: ClosedRange<Int>, address: SocketAddress)] = []
        /// The cluster's epoch as the node knows it. A node that was cut off knows an old one.
        var epoch: Int64 = 0
        /// True when the node says that the cluster takes commands.
        var isHealthy = true

        static func == (one: Report, other: Report) -> Bool {
            one.epoch == other.epoch && one.isHealthy == other.isHealthy
                && one.ranges.elementsEqual(other.ranges) { $0.slots == $1.slots && $0.address == $1.address }
        }

        /// - Parameters:
        ///   - slots: the reply to CLUSTER SLOTS.
        ///   - info: the reply to CLUSTER INFO.
        ///   - origin: the server that answered.
        /// Returns `nil` when these are not such replies, or name no slot at all.
        init?(slots: RedisReply, info: RedisReply, from origin: SocketAddress) {
            guard let entries = slots.array, let text = info.bytes else { return nil }
            for entry in entries {
                guard let parts = entry.array, parts.count >= 3, let first = parts[0].integer,
                    let last = parts[1].integer, first >= 0, first <= last, last < RedisSlots.count,
                    let node = parts[2].array, node.count >= 2, let port = node[1].integer,
                    let port = UInt16(exactly: port)
                else { return nil }
                // Null: the host that was asked. Older versions also answer "?".
                let host = node[0].bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
                let address = SocketAddress(
                    host: host.isEmpty || host == "?" ? origin.host : host, port: port)
                ranges.append((Int(first)...Int(last), address))
            }
            guard !ranges.isEmpty else { return nil }
            for line in String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline) {
                let parts = line.split(separator: ":", maxSplits: 1)
                guard parts.count == 2 else { continue }
                if parts[0] == "cluster_state" { isHealthy = parts[1] == "ok" }
                if parts[0] == "cluster_current_epoch" { epoch = Int64(parts[1]) ?? 0 }
            }
        }

        init(_ ranges: [(slots: ClosedRange<Int>, address: SocketAddress)], epoch: Int64 = 0) {
            self.ranges = ranges
            self.epoch = epoch
        }
    }

    /// For each slot, the index of its node in ``nodes``; -1 where no node does.
    private(set) var owners = [Int32](repeating: -1, count: RedisSlots.count)
    /// Every node that has ever been named. An index stays valid.
    private(set) var nodes: [SocketAddress] = []
    /// The highest epoch of any report taken.
    private(set) var epoch: Int64 = 0
    /// Slots that a redirect has moved, and until when that stands against reports.
    private var redirected: [Int: (node: Int32, until: Int64)] = [:]
    /// Nodes that a redirect has named, and until when they stay.
    private var guests: [Int32: Int64] = [:]

    static func == (one: ClusterMap, other: ClusterMap) -> Bool {
        one.owners == other.owners && one.nodes == other.nodes && one.guests.keys == other.guests.keys
    }

    /// The nodes that serve slots, and those that a redirect has named a short time ago.
    func members(now: Int64) -> Set<Int> {
        var members = Set(guests.lazy.filter { $0.value > now }.map { Int($0.key) })
        var last: Int32 = -1
        for owner in owners where owner != last {
            if owner >= 0 { members.insert(Int(owner)) }
            last = owner
        }
        return members
    }

    mutating func take(_ report: Report, now: Int64) {
        epoch = max(epoch, report.epoch)
        redirected = redirected.filter { $0.value.until > now }
        guests = guests.filter { $0.value > now }
        owners = [Int32](repeating: -1, count: RedisSlots.count)
        for (slots, address) in report.ranges {
            let node = index(of: address)
            for slot in slots { owners[slot] = node }
        }
        for (slot, redirect) in redirected { owners[slot] = redirect.node }
    }

    /// A node has answered with a redirect to `address`. Returns the node's index. The slot stays where it is
    /// when another redirect has moved it a moment ago.
    mutating func take(_ redirect: RedisRedirect, to address: SocketAddress, now: Int64) -> Int {
        let node = index(of: address)
        guests[node] = now + Self.guestMilliseconds
        guard !redirect.isAsk else { return Int(node) }
        if let earlier = redirected[redirect.slot], earlier.node != node,
            now < earlier.until - Self.redirectMilliseconds + Self.settlingMilliseconds
        {
            return Int(node)
        }
        // Copy on write: a write copies the whole table, because the caller keeps the old map for comparison.
        if owners[redirect.slot] != node { owners[redirect.slot] = node }
        redirected[redirect.slot] = (node, now + Self.redirectMilliseconds)
        return Int(node)
    }

    private mutating func index(of address: SocketAddress) -> Int32 {
        if let index = nodes.firstIndex(of: address) { return Int32(index) }
        nodes.append(address)
        return Int32(nodes.count - 1)
    }
}
