// The servers that one connection string names, which of them accepted the last connection, and which are
// known to be replaced. All threads that use the connection string share this object, so they learn from each
// other: a new connection first tries the server that worked last. A connection whose server is silent asks
// here whether another server takes writes. One thread of its own finds that out, so that nobody else waits
// for it.

import Foundation
import Synchronization

package final class DatabaseServers: Sendable {
    /// A host and its port as libpq wants them; empty what the connection string does not name.
    struct Place: Equatable, Sendable {
        let host: String
        let address: String
        let port: String

        /// - Parameters: the host and port of a connection, as libpq reports them.
        func isAt(host: String, port: String) -> Bool {
            (self.port.isEmpty || self.port == port) && (self.host == host || address == host)
        }
    }

    /// What the connections are for.
    package enum Purpose: Sendable {
        /// The server must take writes.
        case everything
        /// A replica will do. Its answers are awaited for a shorter time, because the primary can answer too.
        case reading
    }

    /// What the search for another server has found.
    private struct Search {
        var isRunning = false
        var nextAt = ContinuousClock.now
        /// Servers that another one has replaced, by their identity, the latest last.
        var replaced: [String] = []
    }

    /// How long to wait between two searches.
    private static let searchInterval = Duration.seconds(1)
    /// At most this many replaced servers are remembered.
    private static let mostReplaced = 16

    /// The connection string.
    let url: String
    let purpose: Purpose
    /// In the order of the connection string; empty when it names fewer than two.
    private let places: [Place]
    /// The index of the one that took the last connection.
    private let preferred = Atomic<Int>(0)
    private let search = Mutex(Search())

    /// - Parameter url: as ``DatabaseURL/fault(_:)`` allows it.
    package init(_ url: String, for purpose: Purpose = .everything) {
        self.url = url
        self.purpose = purpose
        let places = DatabaseURL.places(url)
        self.places = places.count > 1 ? places : []
    }

    /// True when another server may take the place of a silent one.
    var mayReplace: Bool { purpose == .everything && !places.isEmpty }

    /// How long the server works on a statement before it gives up.
    var statementMilliseconds: Int {
        switch purpose {
        case .everything: PostgresConnection.statementMilliseconds
        case .reading: PostgresConnection.readingMilliseconds
        }
    }

    // MARK: Order

    /// The parameters that make libpq try the server first that worked last. They follow the connection
    /// string.
    var order: [(name: String, value: String)] {
        let first = preferred.load(ordering: .relaxed)
        return Self.parameters((0..<places.count).map { places[(first + $0) % places.count] })
    }

    /// The parameters for all servers except this one. `nil` when it is the only one.
    func orderWithout(host: String, port: String) -> [(name: String, value: String)]? {
        let others = places.filter { !$0.isAt(host: host, port: port) }
        return others.isEmpty || others.count == places.count ? nil : Self.parameters(others)
    }

    /// Notes that the server at this place has accepted a connection, and takes writes if they are needed. It
    /// may be one that was replaced and is the first choice again.
    func noteAccepted(_ identity: String, host: String, port: String) {
        let index = places.firstIndex { $0.isAt(host: host, port: port) }
        if let index { preferred.store(index, ordering: .relaxed) }
        search.withLock { $0.replaced.removeAll { $0 == identity } }
    }

    private static func parameters(_ places: [Place]) -> [(name: String, value: String)] {
        [
            ("host", places.map(\.host)), ("hostaddr", places.map(\.address)), ("port", places.map(\.port)),
        ].filter { $0.1.contains { !$0.isEmpty } }.map { ($0.0, $0.1.joined(separator: ",")) }
    }

    // MARK: Replaced servers

    /// True when another server is known to take the writes in place of this one.
    func isReplaced(_ identity: String) -> Bool {
        search.withLock { $0.replaced.contains(identity) }
    }

    /// The server with this identity is silent. Begins to look for another one that takes writes, unless a
    /// search is under way or has just ended. Does not block.
    func suspect(_ identity: String, host: String, port: String) {
        guard mayReplace, let order = orderWithout(host: host, port: port) else { return }
        let mayBegin = search.withLock { search in
            guard !search.isRunning, ContinuousClock.now >= search.nextAt else { return false }
            search.isRunning = true
            return true
        }
        guard mayBegin else { return }
        Thread.detachNewThread { [self] in
            let found = PostgresConnection.identity(of: self, order: order)
            search.withLock { search in
                search.isRunning = false
                search.nextAt = .now + Self.searchInterval
                // The other place may be a pooler that leads to this same server.
                guard let found, found != identity, !search.replaced.contains(identity) else { return }
                search.replaced.append(identity)
                if search.replaced.count > Self.mostReplaced { search.replaced.removeFirst() }
            }
        }
    }
}
