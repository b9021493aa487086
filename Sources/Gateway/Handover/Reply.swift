// A value that one thread waits for and another gives.

import Dispatch
import Synchronization

/// Give the value once. ``wait(seconds:)`` blocks, so no loop may call it.
final class Reply<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let given = DispatchSemaphore(value: 0)

    func give(_ value: Value) {
        self.value.withLock { $0 = value }
        given.signal()
    }

    /// The value; `nil` when it has not come in time.
    func wait(seconds: Int) -> Value? {
        guard given.wait(timeout: .now() + .seconds(seconds)) == .success else { return nil }
        return value.withLock { $0 }
    }
}
