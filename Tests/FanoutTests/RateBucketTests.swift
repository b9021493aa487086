import Fanout
import Testing

@Suite struct RateBucketTests {
    @Test("a burst goes through, then the rate; rest fills the bucket no further than the burst")
    func limits() {
        var bucket = RateBucket(burst: 5, now: 1_000)
        func taken(_ tries: Int, at now: Int64) -> Int {
            (0..<tries).count { _ in bucket.take(rate: 10, burst: 5, now: now) }
        }
        #expect(taken(9, at: 1_000) == 5)
        #expect(taken(9, at: 1_099) == 0)
        #expect(taken(9, at: 1_100) == 1)
        #expect(taken(9, at: 1_400) == 3)
        #expect(taken(9, at: 900_000_000) == 5)
        let looks = (0..<2).map { _ in bucket.hasToken(rate: 10, burst: 5, now: 900_000_100) }
        #expect(looks == [true, true], "a look takes nothing")
        #expect(taken(9, at: 900_000_100) == 1)
        // A clock that stands still or goes back gives nothing.
        #expect(taken(9, at: 1_000) == 0)
    }
}
