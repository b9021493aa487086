// The load generator's settings.

import Settings

struct LoadTestSettings: Sendable {
    let bidAPIPort: Int
    let bidders: Int
    let auctions: Int
    /// 0 = until stopped.
    let seconds: Int

    init(_ values: SettingsValues) throws(SettingsError) {
        bidAPIPort = values.number("bid-api-port")
        bidders = values.number("bidders")
        auctions = values.number("auctions")
        seconds = values.number("seconds")
    }

    static let schema = SettingsSchema(
        program: "gavelcast-loadtest",
        summary: "Synthetic bidders: keeps auctions running and bids on them through the bid API.",
        settings: [
            Setting(
                "scenario", .choice(["demo"]), default: "demo",
                "demo: a few lively auctions, renewed as they end"),
            Setting(
                "bid-api-port", .number(1...65_535), default: "8081", "the bid API's port on this machine"),
            Setting("bidders", .number(2...1_000), default: "8", "synthetic bidders"),
            Setting("auctions", .number(1...100), default: "5", "auctions kept running"),
            Setting("seconds", .number(0...86_400), default: "0", "how long to bid; 0 means until stopped"),
        ])
}
