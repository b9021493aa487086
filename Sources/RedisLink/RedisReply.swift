// A reply of Redis as a Swift value.

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
