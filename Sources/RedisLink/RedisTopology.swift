// Which Redis servers there are, and which of them holds an auction or a user: one server, several by
// rendezvous weight, the master behind Sentinels, or the nodes of a cluster. Both services ask here. Shared
// by all threads; in a cluster the answers change, and ``RedisTopology/version`` says so.

import Reactor
import Synchronization

/// Whose keys and channel are looked for.
package enum RedisOwner: Sendable, Hashable {
    case auction(String)
    case user(String)

    var id: String {
        switch self {
        case .auction(let id), .user(let id): id
        }
    }

    /// What decides the slot: the channel's name, which is also the hash tag of the owner's keys.
    package var channel: String {
        switch self {
        case .auction(let id): RedisKeys.channel(id)
        case .user(let id): RedisKeys.userChannel(id)
        }
    }
}

/// The servers at one moment.
package struct RedisMap: Sendable {
    /// Grows with each change.
    package let version: Int
    /// The servers by number. A server keeps its number for as long as the process runs.
    package let servers: [Int: RedisEndpoint]
    /// In a cluster: the number of each slot's server; -1 where no server does.
    private let owners: [Int32]?

    /// Servers that never change.
    init(_ endpoints: [RedisEndpoint]) {
        version = 1
        servers = Dictionary(uniqueKeysWithValues: endpoints.enumerated().map { ($0.offset, $0.element) })
        owners = nil
    }

    /// A cluster's servers.
    init(
        version: Int = 0, servers: [Int: RedisEndpoint] = [:], owners: [Int32]
    ) {
        self.version = version
        self.servers = servers
        self.owners = owners
    }

    package var isCluster: Bool { owners != nil }

    /// The number of the server that holds `owner`; `nil` while nobody does.
    package func server(of owner: RedisOwner) -> Int? {
        guard owners != nil else { return RedisKeys.server(of: owner.id, count: servers.count) }
        return server(ofSlot: RedisSlots.slot(of: owner.channel))
    }

    /// The number of the server that serves a slot of a cluster; `nil` while nobody does.
    package func server(ofSlot slot: Int) -> Int? {
        guard let owner = owners?[slot], owner >= 0 else { return nil }
        return Int(owner)
    }
}

package final class RedisTopology: Sendable {
    private enum Kind {
        case fixed(RedisMap)
        case cluster(ClusterWatch)
    }

    private let kind: Kind

    /// - Parameter urls: as ``RedisURL/fault(_:)`` allows them.
    package init(_ urls: [RedisURL]) {
        precondition(RedisURL.fault(urls) == nil)
        switch urls[0].place {
        case .cluster(let seeds): kind = .cluster(ClusterWatch(seeds, access: urls[0].access))
        case .sentinels(let sentinels, let master, let access):
            let watch = SentinelWatch(sentinels, master: master, access: access)
            kind = .fixed(RedisMap([RedisEndpoint(watch, access: urls[0].access)]))
        case .server:
            kind = .fixed(
                RedisMap(
                    urls.compactMap { url in
                        guard case .server(let address) = url.place else { return nil }
                        return RedisEndpoint(address, access: url.access)
                    }))
        }
    }

    /// The version of ``map``: cheap, for asking often.
    package var version: Int {
        switch kind {
        case .fixed(let map): map.version
        case .cluster(let watch): watch.version
        }
    }

    package var map: RedisMap {
        switch kind {
        case .fixed(let map): map
        case .cluster(let watch): watch.map
        }
    }

    /// Has Sentinels asked, or a cluster's map read again, because something does not fit.
    package func refresh() {
        switch kind {
        case .fixed(let map): for server in map.servers.values { server.askSentinels() }
        case .cluster(let watch): watch.refresh()
        }
    }

    /// Takes a redirect that server `origin` has answered with. Returns the number of the server to go to.
    package func follow(_ redirect: RedisRedirect, from origin: Int) -> Int {
        follow([(redirect, origin)])[0]
    }

    /// Takes redirects, each with the number of the server that has answered with it. Returns the numbers of
    /// the servers to go to. Many at once cost little more than one.
    @discardableResult
    package func follow(_ redirects: [(redirect: RedisRedirect, origin: Int)]) -> [Int] {
        guard case .cluster(let watch) = kind else { return redirects.map(\.origin) }
        return watch.follow(redirects)
    }

    /// Has `observer` called after each change, on any thread; it must not block.
    package func observe(_ observer: @escaping @Sendable () -> Void) {
        if case .cluster(let watch) = kind { watch.observe(observer) }
    }
}
