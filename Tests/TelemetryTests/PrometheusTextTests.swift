import Telemetry
import Testing

@Suite struct PrometheusTextTests {
    @Test("numbers and labelled samples have their help and kind once")
    func metrics() {
        var text = PrometheusText()
        text.metric("a_total", .counter, "As.", 3)
        text.metric(
            "b", .gauge, "Bs.", [(labels: [("x", "1"), ("y", "2")], value: 4), (labels: [], value: 5)])
        #expect(
            text.text == """
                # HELP a_total As.
                # TYPE a_total counter
                a_total 3
                # HELP b Bs.
                # TYPE b gauge
                b{x="1",y="2"} 4
                b 5

                """)
    }

    @Test("OpenMetrics names counters without their ending, has exemplars, and says where it ends")
    func openMetrics() {
        let histogram = Histogram(bounds: [0.5, 1])
        for value in [0.5, 0.75, 2] { histogram.add(value) }
        var snapshot = histogram.snapshot
        snapshot.exemplars = [
            Exemplar(value: 0.7, traceID: "aa", time: 10), Exemplar(value: 0.75, traceID: "bb", time: 11.5),
            Exemplar(value: 2, traceID: "cc", time: 12),
        ]
        var text = PrometheusText(.openMetrics)
        text.metric("a_total", .counter, "As.", 3)
        text.histograms("h", "Hs.", [(labels: [], snapshot: snapshot)])
        #expect(
            text.text == """
                # HELP a As.
                # TYPE a counter
                a_total 3
                # HELP h Hs.
                # TYPE h histogram
                h_bucket{le="0.5"} 1
                h_bucket{le="1.0"} 2 # {trace_id="bb"} 0.75 11.5
                h_bucket{le="+Inf"} 3 # {trace_id="cc"} 2.0 12.0
                h_sum 3.25
                h_count 3
                # EOF

                """)
        var plain = PrometheusText()
        plain.histograms("h", "Hs.", [(labels: [], snapshot: snapshot)])
        #expect(!plain.text.contains("trace_id"), "the older format has no exemplars")
    }

    @Test("a histogram's buckets add up, and a bound belongs to its bucket")
    func histogram() {
        let histogram = Histogram(bounds: [0.5, 1])
        for value in [0.5, 0.75, 1, 2] { histogram.add(value) }
        var text = PrometheusText()
        text.histograms("h", "Hs.", [(labels: [], snapshot: histogram.snapshot)])
        #expect(
            text.text == """
                # HELP h Hs.
                # TYPE h histogram
                h_bucket{le="0.5"} 1
                h_bucket{le="1.0"} 3
                h_bucket{le="+Inf"} 4
                h_sum 4.25
                h_count 4

                """)
    }
}
