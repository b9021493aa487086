import Testing

@testable import Gateway

@Suite struct FeedNewsTests {
    @Test(
        "silence of the probes is news after 2.5 s, a short interruption is not, and a proof ends it at once")
    func silence() {
        var news = FeedNews()
        func update(_ isUp: Bool, proved: Int64?, now: Int64, isRelayMissing: Bool = false) -> Bool {
            news.update(isUp: isUp, isRelayMissing: isRelayMissing, provedAt: proved, now: now)
            return news.isDelivering
        }
        #expect(update(false, proved: nil, now: 0))
        #expect(update(false, proved: nil, now: 2_500))
        #expect(!update(false, proved: nil, now: 2_501), "the first probe never came back")
        #expect(update(true, proved: 3_000, now: 3_000))
        #expect(update(false, proved: 3_000, now: 5_500))
        #expect(update(true, proved: 5_500, now: 5_600))
        #expect(!update(true, proved: 5_500, now: 8_001), "the link has not noticed yet")
        #expect(update(true, proved: 8_100, now: 8_100))
        #expect(!update(true, proved: 8_200, now: 8_200, isRelayMissing: true))
        #expect(!update(false, proved: 8_200, now: 8_300))
        #expect(update(true, proved: 8_400, now: 8_400))
    }

    @Test("the news goes to every channel once, a stretch at a time, and newer news begins anew")
    func stretches() {
        var news = FeedNews()
        news.update(isUp: false, isRelayMissing: false, provedAt: nil, now: 0)
        #expect(news.nextStretch(of: 4, among: 10).isEmpty && !news.isSpreading)
        news.update(isUp: false, isRelayMissing: false, provedAt: nil, now: 3_000)
        #expect(news.nextStretch(of: 4, among: 10) == 0..<4)
        #expect(news.nextStretch(of: 4, among: 10) == 4..<8)
        news.update(isUp: true, isRelayMissing: false, provedAt: 3_100, now: 3_100)
        #expect(news.nextStretch(of: 4, among: 10) == 0..<4)
        #expect(news.nextStretch(of: 9, among: 10) == 4..<10)
        #expect(!news.isSpreading)
        news.update(isUp: false, isRelayMissing: true, provedAt: 3_100, now: 3_200)
        #expect(news.nextStretch(of: 4, among: 0).isEmpty && !news.isSpreading)
    }
}
