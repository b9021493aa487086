// hiredis' reply reader and the request format, for one connection. It knows no socket.

package import CHiredis

package struct RedisCodec: ~Copyable {
    package struct ProtocolError: Error, CustomStringConvertible {
        package let description: String
    }

    /// More unparsed input than this is an error: no reply we ask for is so large.
    private static let maximumInputBytes = 64 << 20
    /// More elements than this in one array are an error. hiredis makes room for as many as a header
    /// announces, before the first one has come.
    private static let maximumElements: Int32 = 1 << 17

    /// hiredis' own functions that make reply objects, with one of them replaced.
    private struct Functions {
        let table: UnsafeMutablePointer<redisReplyObjectFunctions>
        let createArray: (@convention(c) (UnsafePointer<redisReadTask>?, Int32) -> UnsafeMutableRawPointer?)?
    }

    // SAFETY: made once, never changed and never freed; readers on any thread refer to it.
    private nonisolated(unsafe) static let functions: Functions = {
        guard let reader = redisReaderCreate(), let defaults = reader.pointee.fn else {
            preconditionFailure("out of memory")
        }
        defer { redisReaderFree(reader) }
        let table = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        table.initialize(to: defaults.pointee)
        table.pointee.createArray = { task, count in
            guard count <= RedisCodec.maximumElements else { return nil }
            return RedisCodec.functions.createArray?(task, count)
        }
        return Functions(table: table, createArray: defaults.pointee.createArray)
    }()

    // SAFETY: created in init, freed in deinit, used by the one thread that owns the codec.
    private let reader: UnsafeMutablePointer<redisReader>

    package init() {
        guard let reader = redisReaderCreateWithFunctions(Self.functions.table) else {
            preconditionFailure("out of memory")
        }
        self.reader = reader
    }

    deinit {
        redisReaderFree(reader)
    }

    package func feed(_ bytes: UnsafeRawBufferPointer) throws(ProtocolError) {
        guard redisReaderFeed(reader, bytes.baseAddress, bytes.count) == REDIS_OK,
            reader.pointee.len <= Self.maximumInputBytes
        else { throw ProtocolError(description: "reply too large") }
    }

    /// Calls `body` with the next complete reply, which lives for the length of the call; false when there is
    /// none.
    package func next(_ body: (UnsafePointer<redisReply>) -> Void) throws(ProtocolError) -> Bool {
        var reply: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &reply) == REDIS_OK else {
            let text = withUnsafePointer(to: &reader.pointee.errstr) {
                $0.withMemoryRebound(to: CChar.self, capacity: 128) { String(cString: $0) }
            }
            throw ProtocolError(description: text)
        }
        guard let reply else { return false }
        defer { freeReplyObject(reply) }
        body(UnsafePointer(reply.assumingMemoryBound(to: redisReply.self)))
        return true
    }

    /// Appends one command in RESP form.
    package static func append(_ arguments: [[UInt8]], to output: inout [UInt8]) {
        output.append(contentsOf: "*\(arguments.count)\r\n".utf8)
        for argument in arguments {
            output.append(contentsOf: "$\(argument.count)\r\n".utf8)
            output.append(contentsOf: argument)
            output.append(contentsOf: "\r\n".utf8)
        }
    }

    package static func append(_ arguments: [String], to output: inout [UInt8]) {
        append(arguments.map { Array($0.utf8) }, to: &output)
    }
}
