// epoll, and nothing else: a set of descriptors, each with a 64-bit token, and a wait. One loop owns a
// poller.

import CLinux

package struct Poller: ~Copyable {
    package struct Interest: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        package static let readable = Interest(rawValue: EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
        package static let writable = Interest(rawValue: EPOLLOUT.rawValue)
        /// Report a descriptor once each time something new is there, not as long as something is.
        package static let edgeTriggered = Interest(rawValue: EPOLLET.rawValue)
    }

    /// One ready descriptor.
    package struct Event: Sendable {
        package let token: UInt64
        package let isReadable: Bool
        package let isWritable: Bool
        /// An error or a hang-up: reading will tell which.
        package let isBroken: Bool
        /// The peer will send nothing more.
        package let hasHungUp: Bool
    }

    private let descriptor: Int32
    // SAFETY: allocated in init, freed in deinit, written by epoll_wait for the length of `wait`.
    private let events: UnsafeMutableBufferPointer<epoll_event>

    /// - Parameter batch: the most events one wait returns.
    package init(batch: Int = 512) throws(Errno) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw .last("epoll_create1") }
        events = .allocate(capacity: batch)
        events.initialize(repeating: epoll_event())
    }

    deinit {
        close(descriptor)
        events.deallocate()
    }

    package func add(_ target: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
        guard gavelcast_epoll_ctl(descriptor, EPOLL_CTL_ADD, target, interest.rawValue, token) == 0 else {
            throw .last("epoll_ctl add")
        }
    }

    /// Traps when `target` is not in the set: that is our own bug.
    package func modify(_ target: Int32, _ interest: Interest, token: UInt64) {
        let result = gavelcast_epoll_ctl(descriptor, EPOLL_CTL_MOD, target, interest.rawValue, token)
        precondition(result == 0, "epoll_ctl modify of descriptor \(target)")
    }

    package func remove(_ target: Int32) {
        let result = gavelcast_epoll_ctl(descriptor, EPOLL_CTL_DEL, target, 0, 0)
        precondition(result == 0, "epoll_ctl remove of descriptor \(target)")
    }

    /// Waits up to `milliseconds` (−1: for ever), calls `body` for each ready descriptor, and returns their
    /// number.
    @discardableResult
    package func wait(milliseconds: Int32, _ body: (Event) -> Void) -> Int {
        let count = epoll_wait(descriptor, events.baseAddress, Int32(events.count), milliseconds)
        guard count > 0 else {
            precondition(count == 0 || gavelcast_errno() == EINTR, "epoll_wait: \(gavelcast_errno())")
            return 0
        }
        for index in 0..<Int(count) {
            let ready = events[index].events
            let token = withUnsafePointer(to: events[index]) { gavelcast_epoll_token($0) }
            body(
                Event(
                    token: token,
                    isReadable: ready & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue) != 0,
                    isWritable: ready & EPOLLOUT.rawValue != 0,
                    isBroken: ready & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0,
                    hasHungUp: ready & EPOLLRDHUP.rawValue != 0))
        }
        return Int(count)
    }
}
