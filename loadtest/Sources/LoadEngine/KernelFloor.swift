// The kernel alone: what it costs to send the same bytes to many loopback sockets, one call each or by
// io_uring in batches. Nothing reads meanwhile; the receivers' buffers are emptied between rounds, outside
// the measurement.

import CLibURing
import CLinux
import Glibc
package import Reactor

package struct KernelFloor {
    package struct Result: Sendable {
        package let method: String
        /// Of the sending thread, for one send.
        package let cpuMicroseconds: Double
    }

    private static let batch = 128
    private let senders: [Int32]
    private let receivers: [Int32]
    private let payload: [UInt8]

    /// - Parameter sockets: pairs; each takes two descriptors.
    package init(sockets: Int, bytes: Int) throws(Errno) {
        _ = DescriptorLimit.raise()
        payload = [UInt8](repeating: UInt8(ascii: "x"), count: bytes)
        let listener = try Sockets.listen(on: SocketAddress(host: "127.0.0.1", port: 0), sharesPort: false)
        defer { Sockets.close(listener) }
        guard let port = SocketAddress.local(of: listener)?.port else { throw .last("getsockname") }
        var senders: [Int32] = []
        var receivers: [Int32] = []
        for index in 0..<sockets {
            let source = Loopback.address(block: 199, last: 1 + index / WatcherShard.connectionsPerAddress)
            receivers.append(try Loopback.connect(port: Int(port), from: source, receiveBufferBytes: nil))
            while true {
                guard let accepted = try Sockets.accept(listener) else { continue }
                senders.append(accepted)
                break
            }
        }
        self.senders = senders
        self.receivers = receivers
    }

    /// Interleaves the two methods, and gives the median of each over `rounds`.
    package func measure(rounds: Int) -> [Result] {
        var ring = io_uring()
        let hasRing = io_uring_queue_init(UInt32(Self.batch), &ring, 0) == 0
        defer { if hasRing { io_uring_queue_exit(&ring) } }
        var plain: [Double] = []
        var batched: [Double] = []
        for round in 0..<rounds + 1 {
            let one = timed { sendPlainly() }
            let other = hasRing ? timed { sendBatched(&ring) } : 0
            // The first round warms.
            guard round > 0 else { continue }
            plain.append(one)
            batched.append(other)
        }
        let results = [Result(method: "send", cpuMicroseconds: plain.sorted()[rounds / 2])]
        return hasRing
            ? results + [Result(method: "io_uring", cpuMicroseconds: batched.sorted()[rounds / 2])] : results
    }

    package func close() {
        for descriptor in senders + receivers { Sockets.close(descriptor) }
    }

    private func timed(_ body: () -> Void) -> Double {
        let before = Processor.threadNanoseconds()
        body()
        let spent = Processor.threadNanoseconds() - before
        var sink = [UInt8](repeating: 0, count: payload.count * 2)
        for receiver in receivers { _ = sink.withUnsafeMutableBytes { Sockets.receive(receiver, into: $0) } }
        return Double(spent) / 1_000 / Double(senders.count)
    }

    private func sendPlainly() {
        let flags = gavelcast_send_flags()
        payload.withUnsafeBytes { bytes in
            for sender in senders { _ = send(sender, bytes.baseAddress, bytes.count, flags) }
        }
    }

    // SAFETY: the payload outlives the ring's use of it: every send is waited for before this returns.
    private func sendBatched(_ ring: inout io_uring) {
        let flags = gavelcast_send_flags()
        payload.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: senders.count, by: Self.batch) {
                let end = min(start + Self.batch, senders.count)
                for sender in senders[start..<end] {
                    guard let entry = gavelcast_uring_get_sqe(&ring) else {
                        preconditionFailure("ring too small")
                    }
                    gavelcast_uring_prep_send(entry, sender, bytes.baseAddress, bytes.count, flags)
                }
                io_uring_submit_and_wait(&ring, UInt32(end - start))
                gavelcast_uring_advance(&ring, UInt32(end - start))
            }
        }
    }
}
