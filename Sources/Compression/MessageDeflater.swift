// Compresses whole messages for permessage-deflate (RFC 7692), each with a fresh context, so that one
// compressed message serves every client. A loop owns one; nothing of a message is kept.

import CZlib

// SAFETY: the stream lives from init to deinit on the heap, where zlib keeps a pointer back to it; its input
// and output pointers are set for the length of one call.
package final class MessageDeflater {
    /// The window for shared messages. 4 KiB reaches back over a whole event, and costs less to clear between
    /// messages than a larger window.
    package static let sharedWindowBits = 12
    /// zlib's own data: hash heads of 2^(level + 7) entries, cleared for each message.
    private static let memoryLevel: Int32 = 6

    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    /// - Parameter windowBits: 9…15.
    package init(windowBits: Int = sharedWindowBits) {
        precondition((9...15).contains(windowBits))
        stream.initialize(to: z_stream())
        let result = gavelcast_deflate_init(stream, Int32(windowBits), Self.memoryLevel)
        precondition(result == Z_OK, "deflateInit2: \(result)")
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// The message's compressed form without the four bytes that every one ends with (RFC 7692, 7.2.1).
    package func compress(_ message: some Sequence<UInt8>) -> [UInt8] {
        var input = Array(message)
        let bound = Int(deflateBound(stream, UInt(input.count))) + 16
        deflateReset(stream)
        let output = [UInt8](unsafeUninitializedCapacity: bound) { output, count in
            input.withUnsafeMutableBufferPointer { input in
                stream.pointee.next_in = input.baseAddress
                stream.pointee.avail_in = UInt32(input.count)
                stream.pointee.next_out = output.baseAddress
                stream.pointee.avail_out = UInt32(bound)
                let result = deflate(stream, Z_SYNC_FLUSH)
                precondition(result == Z_OK && stream.pointee.avail_in == 0, "deflate: \(result)")
                count = bound - Int(stream.pointee.avail_out)
            }
        }
        stream.pointee.next_in = nil
        stream.pointee.next_out = nil
        return Array(output.dropLast(4))
    }
}
