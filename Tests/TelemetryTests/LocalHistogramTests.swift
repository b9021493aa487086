import Telemetry
import Testing

@Suite struct LocalHistogramTests {
    @Test("a bound belongs to its range, and histograms of several threads add up")
    func ranges() {
        let one = LocalHistogram()
        let other = LocalHistogram()
        for duration in [-5, 0, 100, 101, 2_000_000] { one.add(microseconds: Int64(duration)) }
        other.add(microseconds: 60_000_000)
        let sum = one.snapshot + other.snapshot
        #expect(sum.counts.first == 3 && sum.counts[1] == 1 && sum.counts.last == 1)
        #expect(sum.counts[sum.bounds.firstIndex(of: 2)!] == 1)
        #expect(abs(sum.sum - 62.000201) < 1e-9)
        #expect(sum.bounds == sum.bounds.sorted() && sum.counts.count == sum.bounds.count + 1)
    }
}
