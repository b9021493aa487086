import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import Testing

extension EndToEndTests {
    /// What a fleet of gateways costs each node of a cluster. The links are the gateway's own; one thread
    /// drives all of them.
    @Suite(.serialized) struct ClusterLinks {
        private static let gateways = 200

        @Test("each gateway has two connections to each node, and one more to some node for the map")
        func connections() throws {
            let redis = try RedisCluster(hasReplicas: false)
            let masters = redis.nodes
            let before = try masters.map { try Self.info($0, "connected_clients") }
            let fleet = try Fleet(gateways: Self.gateways, url: redis.url)
            try fleet.run("all links are up") { $0.up == Self.gateways * masters.count }
            let after = try masters.map { try Self.info($0, "connected_clients") }
            let counts = zip(after, before).map(-)
            let commands = try masters.map { try Self.info($0, "total_commands_processed") }
            let start = Clock.monotonicMilliseconds()
            try fleet.run("five seconds have passed") { _ in Clock.monotonicMilliseconds() - start >= 5_000 }
            let rates = try zip(masters, commands).map { node, earlier in
                (try Self.info(node, "total_commands_processed") - earlier) / 5
            }
            print("\(Self.gateways) gateways: connections of each node \(counts), commands a second \(rates)")
            #expect(counts.allSatisfy { $0 >= 2 * Self.gateways })
            #expect(counts.reduce(0, +) <= Self.gateways * (2 * masters.count + 1))
            #expect(fleet.losses == 0)
        }

        private static func info(_ node: RedisServer, _ field: String) throws -> Int {
            let text = String(decoding: try node.client().call("INFO").bytes ?? [], as: UTF8.self)
            let line = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("\(field):") }
            return line.flatMap { Int($0.dropFirst(field.count + 1)) } ?? 0
        }
    }
}

/// The links of many gateways, on the thread that calls ``run(_:until:)``.
private final class Fleet: RedisLinkOwner {
    private let poller: Poller
    private let topologies: [RedisTopology]
    private var links: [RedisLink] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
    private(set) var losses = 0

    var up: Int { links.count(where: \.isUp) }

    init(gateways: Int, url: String) throws {
        poller = try Poller()
        let url = try RedisURL(text: url)
        topologies = (0..<gateways).map { _ in RedisTopology([url]) }
        try eventually("each gateway has read the map") {
            topologies.allSatisfy { !$0.map.servers.isEmpty }
        }
        for (gateway, topology) in topologies.enumerated() {
            for (_, endpoint) in topology.map.servers {
                let index = links.count
                links.append(
                    RedisLink(
                        endpoint: endpoint,
                        identity: .init(
                            index: index, subscriberToken: UInt64(2 * index),
                            commandToken: UInt64(2 * index + 1), probeName: "g\(gateway).\(index)"),
                        owner: self))
            }
        }
    }

    deinit {
        for link in links { link.close(poller: poller) }
        buffer.deallocate()
    }

    /// Lets the links work until `isDone`.
    func run(_ what: String, until isDone: (Fleet) -> Bool) throws {
        let deadline = Clock.monotonicMilliseconds() + 60_000
        while !isDone(self) {
            let now = Clock.monotonicMilliseconds()
            guard now < deadline else { throw TimedOut(description: what) }
            // SAFETY: the links use the buffer for the length of the call, on this thread.
            _ = poller.wait(milliseconds: 20) { event in
                links[Int(event.token / 2)].handle(event, now: now, buffer: buffer, poller: poller)
            }
            for link in links {
                link.tick(now: now, poller: poller)
                link.flush(now: now, poller: poller)
            }
        }
    }

    func linkIsDown(_ link: Int, reason: String) { losses += 1 }

    // The counts need none of these.
    func linkIsUp(_ link: Int) {}
    func linkHearsRelay(_ link: Int) {}
    func linkCannotHearRelay(_ link: Int, _ refusal: RedisRefusal) {}
    func linkSubscribed(_ link: Int, channel: String) {}
    func linkRefused(_ link: Int, channel: String, _ refusal: RedisRefusal) {}
    func linkUnsubscribed(_ link: Int, channel: String) {}
    func linkDeferred(_ link: Int, channels: [String], _ redirect: RedisRedirect?) {}
    func linkReceived(_ link: Int, channel: Span<UInt8>, message: Span<UInt8>) {}
}
