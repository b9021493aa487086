// How the tool's threads talk: a queue of commands into a thread, and a place where one answer is waited for.

import Dispatch
import Synchronization

/// Commands for one thread, which takes them when it is ready.
package final class CommandQueue<Command: Sendable>: Sendable {
    private let commands = Mutex<[Command]>([])
    private let available = DispatchSemaphore(value: 0)

    package init() {}

    package func post(_ command: Command) {
        commands.withLock { $0.append(command) }
        available.signal()
    }

    /// What waits now.
    package func takeAll() -> [Command] {
        commands.withLock { commands in
            defer { commands = [] }
            return commands
        }
    }

    /// Waits for something, then takes all of it.
    package func waitForAll() -> [Command] {
        while true {
            let taken = takeAll()
            if !taken.isEmpty { return taken }
            available.wait()
        }
    }
}

/// One answer, made by one thread and waited for by another.
package final class Answer<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let isThere = DispatchSemaphore(value: 0)

    package init() {}

    package func give(_ value: Value) {
        self.value.withLock { $0 = value }
        isThere.signal()
    }

    /// The answer if it is there.
    package func poll() -> Value? {
        value.withLock { $0 }
    }

    package func wait() -> Value {
        isThere.wait()
        guard let value = value.withLock({ $0 }) else { preconditionFailure("signalled without a value") }
        return value
    }
}
