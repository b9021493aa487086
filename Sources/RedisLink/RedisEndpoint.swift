// One Redis server as our connections know it: where it is now, how to sign in, and whether it is still the
// right one. Shared by every thread that connects to the server.

package import Reactor
import Synchronization

package final class RedisEndpoint: Sendable {
    /// Where the server is, as far as is known without waiting.
    enum Answer: Sendable, Equatable {
        /// The address to try next.
        case address(ResolvedAddress)
        /// Not known yet.
        case pending
        case failed(String)
    }

    private enum Whereabouts: Sendable {
        /// Looked up by name, if it is one.
        case host(SocketAddress, HostLookup)
        /// The Sentinels say which server is the master.
        case sentinels(SentinelWatch)
    }

    /// A cluster node's part in its cluster.
    private struct Membership {
        var tag: String?
        var gains = 0
        var isRetired = false
    }

    /// Names the server in logs: its address, or the master's name.
    package let label: String
    let access: RedisAccess
    /// True for a node of a cluster. Its channels are sharded, and a command may name keys of one slot only.
    package let isClusterNode: Bool
    private let whereabouts: Whereabouts
    private let membership = Mutex(Membership())

    /// A server at an address or under a name.
    package init(_ address: SocketAddress, access: RedisAccess, isClusterNode: Bool = false) {
        label = address.description
        self.access = access
        self.isClusterNode = isClusterNode
        whereabouts = .host(address, HostLookup(address))
    }

    /// The master that Sentinels look after.
    init(_ watch: SentinelWatch, access: RedisAccess) {
        label = "master \(watch.master)"
        self.access = access
        isClusterNode = false
        whereabouts = .sentinels(watch)
    }

    // MARK: Where it is

    /// Asks again where the server is, for instance after a failed connection. Known addresses stay in use
    /// until there are newer ones.
    func refresh() {
        switch whereabouts {
        case .host(_, let lookup): lookup.refresh()
        case .sentinels(let watch): watch.refresh()
        }
    }

    /// Has the Sentinels asked again, if there are any.
    func askSentinels() {
        if case .sentinels(let watch) = whereabouts { watch.refresh() }
    }

    /// True while a name server is being asked.
    var isLookingUp: Bool {
        switch whereabouts {
        case .host(_, let lookup): lookup.isUnderWay
        case .sentinels: false
        }
    }

    func next() -> Answer {
        switch whereabouts {
        case .host(_, let lookup):
            switch lookup.next() {
            case .address(let address): .address(address)
            case .pending: .pending
            case .failed(let error): .failed(error.description)
            }
        case .sentinels(let watch): watch.next()
        }
    }

    /// Every address that may be tried now. Blocks while a name server or the Sentinels are asked.
    func addresses(within milliseconds: Int32) throws(RedisClient.Failure) -> [ResolvedAddress] {
        switch whereabouts {
        case .host(let address, _):
            do throws(Errno) {
                return try address.resolve()
            } catch {
                throw RedisClient.Failure(description: error.description)
            }
        case .sentinels(let watch): return [try watch.wait(milliseconds)]
        }
    }

    /// The name that the server's certificate must have.
    var tlsHost: String {
        switch whereabouts {
        case .host(let address, _): address.host
        case .sentinels(let watch): watch.masterHost
        }
    }

    // MARK: Whether it is still the right one

    /// True when connections to `address` are of no use any more: another server is the master now, or this
    /// one has left the cluster.
    package func hasLeft(_ address: ResolvedAddress) -> Bool {
        if isRetired { return true }
        return switch whereabouts {
        case .host: false
        case .sentinels(let watch): watch.hasMoved(from: address)
        }
    }

    /// True from the moment at which this node has no slot and no part in a migration.
    package var isRetired: Bool { membership.withLock { $0.isRetired } }

    /// In a cluster, a hash tag of a slot that this node serves; `nil` while it serves none, and outside of
    /// clusters.
    package var tag: String? { membership.withLock { $0.tag } }

    /// How often this node has gained slots of its cluster.
    package var gains: Int { membership.withLock { $0.gains } }

    /// - Parameters:
    ///   - tag: see ``tag``.
    ///   - hasGained: true when the node serves slots that it did not serve before.
    func join(tag: String?, hasGained: Bool) {
        membership.withLock { membership in
            membership.tag = tag
            membership.gains += hasGained ? 1 : 0
        }
    }

    func retire() {
        membership.withLock { membership in
            membership.tag = nil
            membership.isRetired = true
        }
    }

    // MARK: Names

    /// A name for this server alone: of a key, or of a channel. On a cluster node it carries the node's tag,
    /// so that the node serves it.
    package func own(_ name: String) -> String {
        tag.map { "\(name):{\($0)}" } ?? name
    }
}
