// Hashes passwords on separate threads, half as many as there are processors. When many users sign in at
// once, the other processors stay free for bids.

import NIOCore
import NIOPosix
import Synchronization

final class PasswordHashing: Sendable {
    private let threads: NIOThreadPool
    private let waiting = Atomic<Int>(0)

    init() {
        threads = NIOThreadPool(numberOfThreads: max(1, System.coreCount / 2))
        threads.start()
    }

    /// Runs `body` as soon as a thread is free.
    /// - Throws: ``APIError/tooManyPasswords`` when too many wait.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async throws -> Result {
        let count = waiting.add(1, ordering: .relaxed).newValue
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard count <= Limits.waitingPasswords else { throw APIError.tooManyPasswords }
        return try await threads.runIfActive { body() }
    }

    func stop() async {
        try? await threads.shutdownGracefully()
    }
}
