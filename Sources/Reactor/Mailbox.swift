// How threads talk to a loop: a bounded queue under a lock, and an eventfd that wakes the loop when it may be
// asleep. The lock is held for an append or a swap, never across a system call.

import CLinux
import Synchronization

/// A bounded queue into one loop. Any thread may post; only the owning loop takes.
package final class Mailbox<Message: Sendable>: Sendable {
    private struct State {
        var messages: [Message] = []
        var isSignalled = false
    }

    private let state = Mutex(State())
    /// True when a message was posted since the last take. Sequential consistency with the lock is not
    /// needed. A poster sets the flag before it signals. An owner that misses the flag now is woken, or takes
    /// in its next turn.
    private let hasMail = Atomic<Bool>(false)
    private let capacity: Int
    private let reserve: Int
    /// Readable while messages wait; the loop keeps it in its poller.
    package let descriptor: Int32

    /// Which messages are taken when many wait.
    package enum Admission: Sendable {
        /// Up to the capacity.
        case withinCapacity
        /// Up to the capacity and the reserve: a message that cannot be had again.
        case withinReserve
        /// Always: a message that must not be lost and whose number is bounded elsewhere.
        case always
    }

    /// - Parameters:
    ///   - capacity: the most messages that wait.
    ///   - reserve: how many more of those that cannot be had again.
    package init(capacity: Int, reserve: Int = 0) throws(Errno) {
        self.capacity = capacity
        self.reserve = reserve
        descriptor = eventfd(0, Int32(gavelcast_eventfd_flags))
        guard descriptor >= 0 else { throw .last("eventfd") }
    }

    deinit {
        close(descriptor)
    }

    /// Messages that wait.
    package var count: Int { state.withLock { $0.messages.count } }

    /// Adds a message; false when the mailbox is full.
    /// - Parameter wakes: false when the poster is the owning loop itself, which takes before it next waits.
    package func post(
        _ message: Message, _ admission: Admission = .withinCapacity, wakes: Bool = true
    ) -> Bool {
        let most =
            switch admission {
            case .withinCapacity: capacity
            case .withinReserve: capacity + reserve
            case .always: Int.max
            }
        let (accepted, mustSignal) = state.withLock { state in
            guard state.messages.count < most else { return (false, false) }
            state.messages.append(message)
            hasMail.store(true, ordering: .releasing)
            guard wakes else { return (true, false) }
            defer { state.isSignalled = true }
            return (true, !state.isSignalled)
        }
        if mustSignal {
            var one: UInt64 = 1
            let written = write(descriptor, &one, 8)
            precondition(written == 8, "eventfd write")
        }
        return accepted
    }

    /// Clears the wake-up; the owning loop calls it when its poller reports the descriptor, and then takes.
    package func acknowledge() {
        var counter: UInt64 = 0
        _ = read(descriptor, &counter, 8)
    }

    /// Takes everything that waits, in the order of posting, by exchanging `batch` (which must be empty).
    package func take(into batch: inout [Message]) {
        precondition(batch.isEmpty)
        guard hasMail.load(ordering: .acquiring) else { return }
        state.withLock { state in
            hasMail.store(false, ordering: .relaxed)
            swap(&state.messages, &batch)
            state.isSignalled = false
        }
    }
}
