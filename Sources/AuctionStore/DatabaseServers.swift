// The servers that one connection string names, and which of them accepted the last connection. All threads
// that use the connection string share this object, so they learn from each other: a new connection first
// tries the server that worked last. A connection whose server is silent gets the other servers from here and
// asks them whether one of them takes writes. Makes no connection itself.

import Synchronization

package final class DatabaseServers: Sendable {
    /// A host and its port as libpq wants them.
    struct Place: Equatable, Sendable {
        let host: String
        let address: String
        let port: String
    }

    /// What the connections are for.
    package enum Purpose: Sendable {
        /// The server must take writes.
        case everything
        /// A replica will do. Its answers are awaited for a shorter time, because the primary can answer too.
        case reading
    }

    /// The connection string.
    let url: String
    let purpose: Purpose
    /// In the order of the connection string; empty when it names fewer than two.
    private let places: [Place]
    /// The index of the one that took the last connection.
    private let preferred = Atomic<Int>(0)

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

    /// The parameters that make libpq try the server first that worked last. They follow the connection
    /// string.
    var order: [(name: String, value: String)] {
        let first = preferred.load(ordering: .relaxed)
        return Self.parameters((0..<places.count).map { places[(first + $0) % places.count] })
    }

    /// The parameters for all servers except this one. `nil` when it is the only one.
    func orderWithout(host: String, port: String) -> [(name: String, value: String)]? {
        let others = places.filter { !($0.port == port && ($0.host == host || $0.address == host)) }
        return others.isEmpty || others.count == places.count ? nil : Self.parameters(others)
    }

    /// Notes that the server at this place has taken a connection.
    func note(host: String, port: String) {
        let index = places.firstIndex { $0.port == port && ($0.host == host || $0.address == host) }
        if let index { preferred.store(index, ordering: .relaxed) }
    }

    private static func parameters(_ places: [Place]) -> [(name: String, value: String)] {
        [
            ("host", places.map(\.host)), ("hostaddr", places.map(\.address)), ("port", places.map(\.port)),
        ].filter { $0.1.contains { !$0.isEmpty } }.map { ($0.0, $0.1.joined(separator: ",")) }
    }
}
