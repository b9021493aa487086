// Takes compressed messages apart (RFC 7692), each with a fresh context and within a bound: a few bytes may stand for a
// thousand times as many. A loop owns one for all its clients.

import CZlib

// SAFETY: as for the deflater: the stream stays where it is, and holds the caller's pointers for one call only.
package final class MessageInflater {
    package enum Outcome: Equatable, Sendable {
        case message([UInt8])
        /// It is longer than allowed.
        case tooLarge
        case malformed
    }

    private static let outputStep = 16_384
    /// What every compressed message ends with, and is sent without.
    private static let tail: [UInt8] = [0x00, 0x00, 0xFF, 0xFF]

    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    package init() {
        stream.initialize(to: z_stream())
        let result = gavelcast_inflate_init(stream)
        precondition(result == Z_OK, "inflateInit2: \(result)")
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// - Parameter maximumBytes: the longest message; no more memory than that and a step is ever taken.
    package func expand(_ compressed: some Collection<UInt8>, maximumBytes: Int) -> Outcome {
        inflateReset(stream)
        var input = Array(compressed) + Self.tail
        var output: [UInt8] = []
        let outcome: Outcome? = input.withUnsafeMutableBufferPointer { input in
            stream.pointee.next_in = input.baseAddress
            stream.pointee.avail_in = UInt32(input.count)
            return Self.run(stream, into: &output, maximumBytes: maximumBytes)
        }
        stream.pointee.next_in = nil
        return outcome ?? .message(output)
    }

    /// Returns `nil` when all went well.
    private static func run(
        _ stream: UnsafeMutablePointer<z_stream>, into output: inout [UInt8], maximumBytes: Int
    ) -> Outcome? {
        while true {
            var result = Z_OK
            let step = [UInt8](unsafeUninitializedCapacity: outputStep) { buffer, count in
                stream.pointee.next_out = buffer.baseAddress
                stream.pointee.avail_out = UInt32(outputStep)
                result = inflate(stream, Z_SYNC_FLUSH)
                count = outputStep - Int(stream.pointee.avail_out)
            }
            stream.pointee.next_out = nil
            output += step
            guard output.count <= maximumBytes else { return .tooLarge }
            switch result {
            case Z_STREAM_END:
                // A block may say that it is the last one, and another stream follow (RFC 7692, 7.2.3.5).
                guard stream.pointee.avail_in > 0 else { return nil }
                inflateReset(stream)
            case Z_OK:
                if endsBetweenBlocks(stream) { return nil }
                // Cut off within a block, unless there is more to come out.
                guard stream.pointee.avail_in > 0 || step.count == outputStep else { return .malformed }
            default: return .malformed
            }
        }
    }
    /// Whether a block has just ended: a message that stops within one was cut (zlib's `data_type`).
    private static func endsBetweenBlocks(_ stream: UnsafeMutablePointer<z_stream>) -> Bool {
        stream.pointee.avail_in == 0 && stream.pointee.data_type & 128 != 0
    }
}
