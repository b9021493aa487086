// How many watch an auction, as the gateways keep it in Redis.

import RedisLink

enum ViewerCounts {
    /// Numbers that a gateway wrote longer ago are of one that died.
    private static let freshMilliseconds: Int64 = 15_000

    /// The number of viewers; `nil` when it is not known.
    static func count(of auctionID: String, _ redis: RedisQueries) async -> Int? {
        let replies = await redis.ask(auctionID, [["TIME"], ["HVALS", RedisKeys.viewers(auctionID)]])
        guard let replies else { return nil }
        let clock = (replies[0].array ?? []).compactMap { $0.bytes.flatMap(number) }
        let now = clock.count == 2 ? clock[0] * 1_000 + clock[1] / 1_000 : 0
        return sum(replies[1].array ?? [], now: now)
    }

    /// The fresh ones of `count:milliseconds`, summed.
    private static func sum(_ entries: [RedisReply], now: Int64) -> Int {
        entries.reduce(0) { sum, entry in
            let parts = String(decoding: entry.bytes ?? [], as: UTF8.self).split(separator: ":")
            guard parts.count == 2, let count = Int(parts[0]), let written = Int64(parts[1]),
                now - written < freshMilliseconds
            else { return sum }
            return sum + count
        }
    }

    private static func number(_ bytes: [UInt8]) -> Int64? { Int64(String(decoding: bytes, as: UTF8.self)) }
}
