// The names of channels and keys in Redis, and which server an auction lives on.

import COpenSSL

package enum RedisKeys {
    package static let channelPrefix = "auction:"
    package static let userChannelPrefix = "user:"

    package static func channel(_ auctionID: String) -> String { channelPrefix + auctionID }
    package static func userChannel(_ userID: String) -> String { userChannelPrefix + userID }
    package static func viewers(_ auctionID: String) -> String { "{auction:\(auctionID)}:viewers" }
    package static func state(_ auctionID: String) -> String { "{auction:\(auctionID)}:state" }
    package static func log(_ auctionID: String) -> String { "{auction:\(auctionID)}:log" }

    /// The channel on which each relay says every second that its bids arrive at this server. On a cluster
    /// node, ``RedisEndpoint/own(_:)`` makes it the node's own.
    package static let relay = "gavelcast:relay"
    /// The key that a link's probes write, and the channel that they must come back on. On a cluster node,
    /// ``RedisEndpoint/own(_:)`` makes it the node's own.
    /// - Parameter name: unique among all links of all gateways.
    package static func probe(_ name: String) -> String { "gavelcast:probe:\(name)" }
    /// The first byte of the relay's and the probes' channel names. No auction's or user's channel begins
    /// with it.
    static let ownPrefixByte = UInt8(ascii: "g")

    /// The key that marks a Redis that the bid APIs have filled. When it is gone, the rest may be gone too.
    /// On a cluster node, ``RedisEndpoint/own(_:)`` makes it the node's own.
    package static let filled = "gavelcast:filled"

    /// The bucket of one user's limit on an action. It shares the slot of the user's channel.
    package static func limit(_ action: String, _ userID: String) -> String {
        "limit:\(action):{\(userChannel(userID))}"
    }

    /// The index of the server, of `count`, that the auction or user `id` lives on. That server has the
    /// highest rendezvous weight: the first 8 bytes (big-endian) of SHA-256 of `<index>:<id>`.
    package static func server(of id: String, count: Int) -> Int {
        precondition(count > 0)
        guard count > 1 else { return 0 }
        return (0..<count).max { weight($0, id) < weight($1, id) } ?? 0
    }

    private static func weight(_ index: Int, _ id: String) -> UInt64 {
        let text = Array("\(index):\(id)".utf8)
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        SHA256(text, text.count, &digest)
        return digest[..<8].reduce(0) { $0 << 8 | UInt64($1) }
    }
}
