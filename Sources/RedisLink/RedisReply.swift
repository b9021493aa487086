// A reply of Redis as a Swift value, and what became of a command: data, an error, or no reply at all. The
// three must never be mixed: an error is not an empty list, and a lost connection is neither.

package import CHiredis

package indirect enum RedisReply: Sendable, Equatable {
    case bytes([UInt8])
    case status(String)
    case integer(Int64)
    case array([RedisReply])
    case null
    case error(String)

    package var integer: Int64? {
        if case .integer(let value) = self { value } else { nil }
    }
    package var bytes: [UInt8]? {
        if case .bytes(let value) = self { value } else { nil }
    }
    package var array: [RedisReply]? {
        if case .array(let value) = self { value } else { nil }
    }
    /// The error that this reply is; `nil` when it is data or null.
    package var refusal: RedisRefusal? {
        if case .error(let text) = self { RedisRefusal(text: text) } else { nil }
    }

    // SAFETY: `reply` is a complete reply object of hiredis that lives until the caller frees it; all is
    // copied.
    package init(_ reply: UnsafePointer<redisReply>) {
        let value = reply.pointee
        switch value.type {
        case REDIS_REPLY_STRING: self = .bytes(Self.copy(value))
        case REDIS_REPLY_STATUS: self = .status(String(decoding: Self.copy(value), as: UTF8.self))
        case REDIS_REPLY_ERROR: self = .error(String(decoding: Self.copy(value), as: UTF8.self))
        case REDIS_REPLY_INTEGER: self = .integer(value.integer)
        case REDIS_REPLY_ARRAY:
            self = .array((0..<Int(value.elements)).map { RedisReply(value.element[$0]!) })
        default: self = .null
        }
    }

    private static func copy(_ value: redisReply) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: value.str, count: Int(value.len)))
    }
}

/// An error reply.
package struct RedisRefusal: Error, Sendable, Equatable, CustomStringConvertible {
    /// As Redis wrote it, beginning with the error's code.
    package let text: String

    package init(text: String) {
        self.text = text
    }

    /// True when the error is about the keys or channels that the command named: an access rule, or a value
    /// of another type. Any other error is about the server or the connection and would meet every command.
    package var concernsNamesOnly: Bool {
        // Within a script's error, too. "… no permissions to run the 'mget' command" is about the user,
        // whatever the key.
        text.contains("WRONGTYPE") || text.hasPrefix("NOPERM") && !text.contains(" command")
    }

    /// True when the error says that the server, or this user of it, is of no use at present for any command.
    package var concernsServer: Bool {
        Self.serverCodes.contains(where: text.hasPrefix) || text.hasPrefix("NOPERM") && !concernsNamesOnly
    }

    private static let serverCodes = [
        "READONLY", "OOM", "LOADING", "NOAUTH", "WRONGPASS", "MISCONF", "MASTERDOWN", "NOREPLICAS", "MOVED",
        "ASK ",
        "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN", "BUSY ",
    ]

    /// True when a cluster refuses the command for the moment: the slot is being moved, or a master is being
    /// replaced. The same command may succeed soon.
    package var isPassing: Bool {
        ["TRYAGAIN", "CLUSTERDOWN"].contains(where: text.hasPrefix) || RedisRedirect(self) != nil
    }

    package var description: String {
        let cluster = ["MOVED ", "ASK ", "CROSSSLOT", "CLUSTERDOWN"]
        guard cluster.contains(where: text.hasPrefix) else { return "Redis refused: \(text)" }
        return "this is a Redis Cluster node: its address must begin with redis+cluster:// (\(text))"
    }
}

/// What became of a command on a ``RedisLink``.
package enum RedisAnswer: Sendable {
    /// Data or null, never an error.
    case reply(RedisReply)
    case refused(RedisRefusal)
    /// The link was lost before a reply came, or was not up.
    case lost

    init(_ reply: RedisReply) {
        self = reply.refusal.map(RedisAnswer.refused) ?? .reply(reply)
    }
}
