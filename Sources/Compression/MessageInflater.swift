// Decompresses messages (RFC 7692), each with a fresh context and within a bound, because a few bytes may
// expand to a thousand times as many. A loop owns one inflater for all its clients.

import CZlib

// SAFETY: as for the deflater: the stream stays where it is, and holds the caller's pointers for one call
// only.
package final class MessageInflater {
    package enum Outcome: Equatable, Sendable {
        case message([UInt8])
        /// It is longer than allowed.
        case tooLarge
        case malformed
    }

    private static let outputStep = 16_384
    /// The bound on blocks of a message that claim to be the last. Senders make one, and each costs a
    /// restart.
    private static let finalBlocks = 16
    /// What every compressed message ends with, and is sent without.
    private static let tail: [UInt8] = [0x00, 0x00, 0xFF, 0xFF]

    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private let scratch = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: outputStep)

    package init() {
        stream.initialize(to: z_stream())
        let result = gavelcast_inflate_init(stream)
        precondition(result == Z_OK, "inflateInit2: \(result)")
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
        scratch.deallocate()
    }

    /// - Parameter maximumBytes: the longest message. The output never takes more memory than this and a
    ///   step.
    package func expand(_ compressed: some Collection<UInt8>, maximumBytes: Int) -> Outcome {
        inflateReset(stream)
        var input = Array(compressed) + Self.tail
        var output: [UInt8] = []
        let outcome: Outcome? = input.withUnsafeMutableBufferPointer { input in
            stream.pointee.next_in = input.baseAddress
            stream.pointee.avail_in = UInt32(input.count)
            return run(into: &output, maximumBytes: maximumBytes)
        }
        stream.pointee.next_in = nil
        stream.pointee.next_out = nil
        return outcome ?? .message(output)
    }

    /// Returns `nil` when all went well.
    private func run(into output: inout [UInt8], maximumBytes: Int) -> Outcome? {
        var finalBlocks = 0
        while true {
            stream.pointee.next_out = scratch.baseAddress
            stream.pointee.avail_out = UInt32(Self.outputStep)
            let result = inflate(stream, Z_SYNC_FLUSH)
            let count = Self.outputStep - Int(stream.pointee.avail_out)
            output.append(contentsOf: scratch[..<count])
            guard output.count <= maximumBytes else { return .tooLarge }
            switch result {
            case Z_STREAM_END:
                // A block may say that it is the last one, and another stream follow (RFC 7692, 7.2.3.5).
                guard stream.pointee.avail_in > 0 else { return nil }
                finalBlocks += 1
                guard finalBlocks < Self.finalBlocks else { return .malformed }
                inflateReset(stream)
            case Z_OK:
                if endsBetweenBlocks { return nil }
                // Cut off within a block, unless there is more to come out.
                guard stream.pointee.avail_in > 0 || count == Self.outputStep else { return .malformed }
            default: return .malformed
            }
        }
    }

    /// True when a block has just ended (zlib's `data_type`). A message that stops within a block was cut
    /// off.
    private var endsBetweenBlocks: Bool {
        stream.pointee.avail_in == 0 && stream.pointee.data_type & 128 != 0
    }
}
