// Looks up a server's addresses on a separate thread, because a lookup may block for seconds. A loop asks
// only for the addresses that are already known.

import Synchronization

package final class HostLookup: Sendable {
    package enum Answer: Sendable, Equatable {
        /// The one to try next, of several in turn.
        case address(ResolvedAddress)
        /// Not known yet.
        case pending
        /// The name is not known; it is being asked for again.
        case failed(Errno)
    }

    private struct State {
        var addresses: [ResolvedAddress] = []
        var next = 0
        var failure: Errno?
        var isUnderWay = false
    }

    private let host: SocketAddress
    private let numeric: ResolvedAddress?
    private let state = Mutex(State())

    /// Begins looking a name up; an address is known at once.
    package init(_ host: SocketAddress) {
        self.host = host
        numeric = host.numeric
        refresh()
    }

    /// Looks the name up again, for instance after a failed connection: the server may have moved. The known
    /// addresses stay in use until there are newer ones.
    package func refresh() {
        guard numeric == nil else { return }
        let isStarting = state.withLock { state in
            defer { state.isUnderWay = true }
            return !state.isUnderWay
        }
        guard isStarting else { return }
        LoopThread.detached(name: "lookup") { [self] in
            let result = Result { () throws(Errno) in try host.resolve() }
            state.withLock { state in
                state.isUnderWay = false
                switch result {
                case .success(let addresses):
                    state.addresses = addresses
                    state.failure = nil
                case .failure(let error): state.failure = error
                }
            }
        }
    }

    /// True while the name server is being asked.
    package var isUnderWay: Bool { state.withLock { $0.isUnderWay } }

    package func next() -> Answer {
        if let numeric { return .address(numeric) }
        let answer = state.withLock { state -> Answer in
            guard state.addresses.isEmpty else {
                state.next = (state.next + 1) % state.addresses.count
                return .address(state.addresses[state.next])
            }
            guard !state.isUnderWay, let failure = state.failure else { return .pending }
            return .failed(failure)
        }
        if case .failed = answer { refresh() }
        return answer
    }
}
