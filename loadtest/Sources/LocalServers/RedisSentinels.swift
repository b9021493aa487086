// A private Redis master with replicas, and the Sentinels that look after them.

import Foundation
import RedisLink

package final class RedisSentinels {
    package static let master = "auctions"
    /// How long the master must be silent before the Sentinels replace it.
    private static let downAfter = 1_000

    /// The first one is the master at first.
    package let servers: [RedisServer]
    package let sentinels: [RedisServer]
    private let credentials: String

    /// - Parameters:
    ///   - password: of the Redis servers; `nil` for none. The Sentinels have none.
    ///   - arguments: more settings of the Redis servers.
    package init(
        replicas: Int = 2, sentinels count: Int = 3, password: String? = nil, arguments: [String] = []
    )
        throws
    {
        let secrets = password.map { ["--requirepass", $0, "--masterauth", $0] } ?? []
        credentials = password.map { ":\($0)@" } ?? ""
        let common = ["--repl-diskless-sync-delay", "0"] + secrets + arguments
        let first = try RedisServer(arguments: common, password: password)
        servers =
            [first]
            + (try (0..<replicas).map { _ in
                try RedisServer(
                    arguments: common + ["--replicaof", "127.0.0.1 \(first.port)"], password: password)
            })
        for replica in servers.dropFirst() {
            try eventually("the replica follows") {
                let info = try replica.client().call("INFO", "REPLICATION").bytes ?? []
                return String(decoding: info, as: UTF8.self).contains("master_link_status:up")
            }
        }
        sentinels = try (0..<count).map { _ in
            var lines = [
                "sentinel monitor \(Self.master) 127.0.0.1 \(first.port) \(count / 2 + 1)",
                "sentinel down-after-milliseconds \(Self.master) \(Self.downAfter)",
                "sentinel failover-timeout \(Self.master) 3000",
            ]
            if let password { lines.append("sentinel auth-pass \(Self.master) \(password)") }
            return try RedisServer(sentinel: lines)
        }
        try eventually("the Sentinels know each other and the replicas") {
            try self.sentinels.allSatisfy { sentinel in
                let master = try Self.fields(sentinel.client().call("SENTINEL", "MASTER", Self.master))
                return master["num-other-sentinels"] == "\(count - 1)"
                    && master["num-slaves"] == "\(replicas)"
            }
        }
    }

    package var url: String {
        "redis+sentinel://\(credentials)"
            + sentinels.map { "127.0.0.1:\($0.port)" }.joined(separator: ",") + "/\(Self.master)"
    }

    /// The server that the majority of the running Sentinels names.
    package func current() throws -> RedisServer {
        let ports = try sentinels.filter(\.isAnswering).map {
            try Self.fields($0.client().call("SENTINEL", "MASTER", Self.master))["port"] ?? ""
        }
        let counts = Dictionary(ports.map { ($0, 1) }, uniquingKeysWith: +)
        guard let port = counts.max(by: { $0.value < $1.value })?.key,
            let server = servers.first(where: { "\($0.port)" == port })
        else { throw ServerFailure(description: "no Sentinel names a master") }
        return server
    }

    /// True when a Sentinel names another server than `old`, as clients ask for it.
    package func hasReplaced(_ old: RedisServer) throws -> Bool {
        try sentinels.contains { sentinel in
            let reply = try sentinel.client().call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self.master)
            guard let port = reply.array?.last?.bytes else { return false }
            return String(decoding: port, as: UTF8.self) != "\(old.port)"
        }
    }

    /// Lets the Sentinels and the replicas lose the master, which goes on for everyone else.
    package func cutOff(_ master: RedisServer) throws {
        // What only Sentinels and replicas use.
        try master.accept("ACL", "SETUSER", "default", "-ping", "-psync", "-replconf", "-info", "-sync")
        try master.accept("CLIENT", "KILL", "TYPE", "replica")
    }

    private static func fields(_ reply: RedisReply) -> [String: String] {
        let texts = (reply.array ?? []).map { String(decoding: $0.bytes ?? [], as: UTF8.self) }
        return Dictionary(
            stride(from: 0, to: texts.count - 1, by: 2).map { (texts[$0], texts[$0 + 1]) }
        ) { first, _ in first }
    }
}
