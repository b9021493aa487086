// How many watch an auction, as the gateways keep it in Redis.

import RedisLink

enum ViewerCounts {
    /// How long a gateway's count stays valid. An older count comes from a gateway that died.
    private static let freshMilliseconds: Int64 = 15_000
    /// At most this many viewers are reported, whatever Redis holds.
    private static let mostViewers = 1_000_000_000

    /// The number of viewers; `nil` when it is not known.
    static func count(of auctionID: String, _ redis: RedisQueries) async -> Int? {
        let replies = await redis.ask(
            .auction(auctionID), [["TIME"], ["HVALS", RedisKeys.viewers(auctionID)]])
        // An error is not an empty list. The number of viewers is then unknown.
        guard let replies, let time = replies[0].array, let counts = replies[1].array else { return nil }
        let clock = time.compactMap { $0.bytes.flatMap(number) }
        guard clock.count == 2 else { return nil }
        return sum(counts, now: clock[0] * 1_000 + clock[1] / 1_000)
    }

    /// The fresh ones of `count:milliseconds`, summed.
    private static func sum(_ entries: [RedisReply], now: Int64) -> Int {
        entries.reduce(0) { sum, entry in
            let parts = String(decoding: entry.bytes ?? [], as: UTF8.self).split(separator: ":")
            guard parts.count == 2, let count = Int(parts[0]), (0...mostViewers).contains(count),
                let written = Int64(parts[1]), written > now - freshMilliseconds
            else { return sum }
            return min(mostViewers, sum + count)
        }
    }

    private static func number(_ bytes: [UInt8]) -> Int64? { Int64(String(decoding: bytes, as: UTF8.self)) }
}
