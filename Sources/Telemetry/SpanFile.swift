// Writes spans to a file, one line each. Any thread may add a span. A serial dispatch queue writes them, so
// that no event loop waits for a disk. Each write opens the file anew. The file can therefore be moved away
// at any time, and several processes may write to it.

import Dispatch
import Glibc
import Synchronization

package final class SpanFile: Sendable {
    /// At most this many spans wait for the disk.
    static let mostWaiting = 1_024

    private let path: String
    private let service: String
    private let version: String
    private let queue = DispatchQueue(label: "gavelcast.spans")
    private let waiting = Atomic<Int>(0)
    private let lost = Atomic<Int>(0)

    /// - Parameter service: the program's name in the spans.
    package init(path: String, service: String, version: String) {
        self.path = path
        self.service = service
        self.version = version
    }

    /// Why spans cannot be written to `path`; `nil` if they can, as far as is known without writing.
    package static func fault(_ path: String) -> String? {
        let folder = path.contains("/") ? String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) : "."
        let target = access(path, F_OK) == 0 ? path : folder.isEmpty ? "/" : folder
        guard access(target, W_OK) != 0 else { return nil }
        return "'\(path)' cannot be written: \(String(cString: strerror(errno)))"
    }

    /// Spans that were not written, because the disk was too slow or refused them.
    package var dropped: Int { lost.load(ordering: .relaxed) }

    package func write(_ span: TraceSpan) {
        // Relaxed: only the bound depends on it.
        guard waiting.add(1, ordering: .relaxed).newValue <= Self.mostWaiting else {
            waiting.subtract(1, ordering: .relaxed)
            lost.add(1, ordering: .relaxed)
            return
        }
        queue.async { [self] in
            if !append(span.line(service: service, version: version) + "\n") {
                lost.add(1, ordering: .relaxed)
            }
            waiting.subtract(1, ordering: .relaxed)
        }
    }

    /// Waits until everything that was handed over is written.
    package func flush() {
        queue.sync {}
    }

    private func append(_ line: String) -> Bool {
        // Not blocking: a pipe without a reader is no reason to wait.
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o640)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // One write, so that the lines of several processes do not mix.
        let bytes = Array(line.utf8)
        return Glibc.write(descriptor, bytes, bytes.count) == bytes.count
    }
}
