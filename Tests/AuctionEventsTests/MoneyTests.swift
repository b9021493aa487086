import AuctionEvents
import TestSupport
import Testing

@Suite struct MoneyTests {
    @Test(
        "decimal text becomes exact cents",
        arguments: [
            ("0", 0), ("12", 1_200), ("12.5", 1_250), ("12.50", 1_250), ("12.500", 1_250), ("0.05", 5),
            ("0.1", 10),
            ("999999999999.99", 99_999_999_999_999),
        ])
    func reads(text: String, cents: Int64) {
        #expect(Money(text: text)?.cents == cents)
    }

    @Test(
        "what is no plain amount is refused",
        arguments: [
            "", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "0.001", "12.345", "1000000000000", " 1", "1 ",
            "١",
            "99999999999999999999999",
        ])
    func refuses(text: String) {
        #expect(Money(text: text) == nil)
    }

    @Test("what is written reads back as the same cents")
    func roundTrip() {
        var generator = SeededGenerator.announced("money round trip")
        for _ in 0..<10_000 {
            let money = Money(cents: Int64.random(in: 0...Money.maximumCents, using: &generator))
            #expect(Money(text: money.description) == money)
        }
        #expect(Money(cents: 1_205).description == "12.05")
        #expect(Money(cents: 1_200).description == "12")
    }
}
