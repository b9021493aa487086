import Telemetry
import Testing

private enum Colour: Int, TallyKind {
    case red, blue
    var index: Int { rawValue }
    var label: String { "\(self)" }
}

@Suite struct MetricTests {
    private func text(_ value: @escaping @Sendable (Int) -> Metric<Int>.Value) -> String {
        var text = PrometheusText()
        Metric<Int>(.gauge, "m", "Ms.", value).write(of: 7, to: &text)
        return text.text.split(separator: "\n").dropFirst(2).joined(separator: "\n")
    }

    @Test("a row writes what it reads from its source, with labels where it has kinds")
    func values() {
        #expect(text { .number($0) } == "m 7")
        #expect(text { .fraction(Double($0) / 2) } == "m 3.5")
        #expect(text { .fractions(label: "loop", [(value: "0", number: Double($0))]) } == #"m{loop="0"} 7.0"#)
        #expect(text { _ in .missing } == "")
        let (one, other) = (Tally<Colour>(), Tally<Colour>())
        one.add(.blue, 2)
        other.add(.blue)
        other.add(.red)
        #expect(
            text { _ in .tally(label: "colour", [one, other]) }
                == """
                m{colour="red"} 1
                m{colour="blue"} 3
                """)
    }
}
