import AuctionEvents
import TestSupport
import Testing

@Suite struct MoneyTests {
    @Test(
        "a JSON number becomes exact minor units, with as many decimals as it needs",
        arguments: [
            ("0", 0, 0), ("12", 12, 0), ("12.5", 125, 1), ("12.50", 125, 1),
            ("12.500000000000000000000000", 125, 1),
            ("0.05", 5, 2), ("1.25e1", 125, 1), ("125E-1", 125, 1), ("1e3", 1_000, 0),
            ("0.00e9999999999", 0, 0),
            ("-0", 0, 0), ("0.0001", 1, 4), ("999999999999.99", 99_999_999_999_999, 2),
            ("100000000000e-3", 100_000_000, 0),
        ])
    func reads(text: String, units: Int64, decimals: Int) {
        let money = Money(text: text)
        #expect(money?.minorUnits == units && money?.decimals == decimals)
    }

    @Test(
        "text that is no exact amount is refused",
        arguments: [
            "-1", "-0.01", "0.00001", "12.34000000000000000000000000000000000000001", "1e400", "1e-400",
            "1e12",
            "1000000000000", "1e99999999999999999999", "99999999999999999999999", "0.1e-4",
        ])
    func refuses(text: String) {
        #expect(Money(text: text) == nil)
    }

    @Test(
        "an amount is held to the decimals of its currency",
        arguments: [
            ("JPY", "100.50", nil), ("JPY", "100.00", "100"), ("USD", "12.345", nil),
            ("USD", "12.3", "12.30"),
            ("KWD", "1.234", "1.234"), ("KWD", "1.2", "1.200"), ("KWD", "1.2345", nil),
            ("CLF", "1.2345", "1.2345"),
            ("XXQ", "1.23", "1.23"), ("XXQ", "1.234", nil),
        ])
    func currencies(code: String, text: String, shown: String?) throws {
        let currency = try #require(Currency(code))
        let money = try #require(Money(text: text))
        #expect(money.converted(toDecimals: currency.decimals)?.description == shown)
    }

    @Test("a currency is three capital letters")
    func codes() {
        for code in ["usd", "US", "USDX", "U1D", "", "ÄÖÜ"] { #expect(Currency(code) == nil) }
    }

    @Test("what is written reads back as the same amount, and orders as numbers do")
    func roundTrip() {
        var generator = SeededGenerator.announced("money round trip")
        for _ in 0..<10_000 {
            let decimals = Int.random(in: 0...Money.mostDecimals, using: &generator)
            let most = Money.maximumUnits(decimals: decimals)
            let money = Money(minorUnits: Int64.random(in: 0...most, using: &generator), decimals: decimals)
            let read = Money(text: money.description)
            #expect(read == money && read?.hashValue == money.hashValue)
            #expect(read?.converted(toDecimals: decimals)?.minorUnits == money.minorUnits)
            guard money.minorUnits > 0 else { continue }
            let less = Money(minorUnits: money.minorUnits - 1, decimals: decimals)
            #expect(less < money && !(money < less) && less != money)
        }
        #expect(Money(cents: 1_205).description == "12.05")
        #expect(Money(cents: 1_200).description == "12")
        let most = Money(minorUnits: Money.maximumUnits(decimals: 2), decimals: 2)
        #expect(most + most == most, "a sum stays within the maximum")
    }
}
