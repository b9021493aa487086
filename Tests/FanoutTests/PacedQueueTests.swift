import Fanout
import Testing

@Suite struct PacedQueueTests {
    @Test("tokens leave evenly over the time, each once, and all by its end")
    func paces() {
        var queue = PacedQueue(Array(0..<100), startedAt: 1_000, milliseconds: 10_000)
        var taken: [UInt64] = []
        func take(at now: Int64) -> Int {
            let before = taken.count
            while let token = queue.next(now: now) { taken.append(token) }
            return taken.count - before
        }
        #expect(take(at: 900) == 0 && take(at: 1_000) == 0)
        #expect(take(at: 1_100) == 1 && take(at: 2_000) == 9 && take(at: 6_000) == 40)
        #expect(!queue.isDue(now: 6_000) && !queue.isEmpty)
        #expect(take(at: 11_000) == 50)
        #expect(taken == Array((0..<100).reversed()) && queue.isEmpty && !queue.isDue(now: 99_999))
    }

    @Test("without a time all are due at once")
    func atOnce() {
        var queue = PacedQueue([1, 2], startedAt: 5, milliseconds: 0)
        let taken = (0..<3).map { _ in queue.next(now: 5) }
        #expect(taken == [2, 1, nil])
    }
}
