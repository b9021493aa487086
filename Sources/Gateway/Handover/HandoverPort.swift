// The queue of leaving connections in the old process. The event loops put batches in, and the thread that
// sends them takes them out. It needs no bound of its own: each loop has at most `Limits.batchesInFlight`
// batches here.

import Dispatch
import Synchronization

final class HandoverPort: Sendable {
    enum Item: Sendable {
        case batch([MovedConnection], loop: Int)
        /// The loop has nothing more to give.
        case finished
    }

    private struct State {
        var items: [Item] = []
        var isClosed = false
    }

    private let state = Mutex(State())
    private let available = DispatchSemaphore(value: 0)

    /// Returns false when the port is closed. The connections then stay with the caller.
    func post(_ item: Item) -> Bool {
        let isTaken = state.withLock { state in
            guard !state.isClosed else { return false }
            state.items.append(item)
            return true
        }
        if isTaken { available.signal() }
        return isTaken
    }

    /// Waits for the next item; `nil` when none has come in time.
    func next(withinSeconds seconds: Int) -> Item? {
        guard available.wait(timeout: .now() + .seconds(seconds)) == .success else { return nil }
        return state.withLock { $0.items.isEmpty ? nil : $0.items.removeFirst() }
    }

    /// Takes no more items and returns those that wait.
    func close() -> [Item] {
        state.withLock { state in
            defer { state.items = [] }
            state.isClosed = true
            return state.items
        }
    }
}
