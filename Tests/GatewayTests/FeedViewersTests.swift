import Testing

@testable import Gateway

@Suite struct FeedViewersTests {
    @Test(
        "a number of viewers is announced at first, and when it has changed by 5 %",
        arguments: [
            (count: 40, announced: nil, isWorth: true), (0, nil, true), (0, 0, false), (1, 0, true),
            (40, 40, false), (41, 40, false), (39, 40, false), (42, 40, true), (38, 40, true),
            (20, 19, true), (21, 22, false), (0, 1_000_000, true), (1_049_999, 1_000_000, false),
        ] as [(Int, Int?, Bool)])
    func announcements(count: Int, announced: Int?, isWorth: Bool) {
        #expect(AuctionFeed.isWorthAnnouncing(count, after: announced) == isWorth)
    }
}
