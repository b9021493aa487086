// The gzip form (RFC 1952) of what does not change: pages and scripts, made once at the start.

import CZlib

package enum Gzip {
    // SAFETY: the stream lives on the stack for the length of the call; zlib's pointers into input and output
    // are used within it.
    /// The gzip form of `content`, as small as zlib makes it.
    package static func compress(_ content: [UInt8]) -> [UInt8] {
        var stream = z_stream()
        var result = gavelcast_gzip_init(&stream)
        precondition(result == Z_OK, "deflateInit2: \(result)")
        defer { deflateEnd(&stream) }
        var input = content
        let bound = Int(deflateBound(&stream, UInt(input.count))) + 32
        return [UInt8](unsafeUninitializedCapacity: bound) { output, count in
            input.withUnsafeMutableBufferPointer { input in
                stream.next_in = input.baseAddress
                stream.avail_in = UInt32(input.count)
                stream.next_out = output.baseAddress
                stream.avail_out = UInt32(bound)
                result = deflate(&stream, Z_FINISH)
                precondition(result == Z_STREAM_END, "deflate: \(result)")
                count = bound - Int(stream.avail_out)
            }
        }
    }
}
