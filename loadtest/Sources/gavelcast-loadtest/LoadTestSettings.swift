// The commands of the load tester, each with its settings.

import LoadEngine
import Settings

enum Command: String, CaseIterable {
    case demo, watch, publish, bid, replay, audit, floor, run, simulate

    var summary: String {
        switch self {
        case .demo: "keeps a few lively auctions running through the bid API, to look at"
        case .watch:
            "watches auctions with many simulated watchers, and keeps an account of what each applied"
        case .publish: "publishes events straight to Redis at a steady rate, whatever the servers do"
        case .bid: "bids through the bid API at a steady rate, whatever the servers do"
        case .replay: "replays recorded auctions through the bid API and compares where they end"
        case .audit: "compares watchers' accounts with what was published"
        case .floor: "measures the kernel alone, or (with --listen) serves as a bare gateway to compare with"
        case .run: "runs a scenario from start to report"
        case .simulate: "computes how late bids reach the watchers of many gateways, from measured costs"
        }
    }

    var schema: SettingsSchema {
        SettingsSchema(
            program: "gavelcast-loadtest \(rawValue)" + (self == .run ? " SCENARIO" : ""),
            summary: "gavelcast-loadtest \(rawValue): \(summary).", settings: settings)
    }

    private var settings: [Setting] {
        let bidAPI = Setting(
            "bid-api-port", .number(1...65_535), default: "8081", "the bid API's port on this machine")
        let redis = Setting("redis-url", .text, default: "redis://127.0.0.1:6379", "where to publish")
        switch self {
        case .demo:
            return [
                bidAPI, Setting("bidders", .number(2...1_000), default: "8", "synthetic bidders"),
                Setting("auctions", .number(1...100), default: "5", "auctions kept running"),
                Setting(
                    "seconds", .number(0...86_400), default: "0", "how long to bid; 0 means until stopped"),
            ]
        case .watch:
            return [
                Setting("port", .number(1...65_535), default: "8080", "the gateway's port on this machine"),
                Setting("auctions", .list, default: "hot-0", "auctions to watch, in turn"),
                Setting("watchers", .number(1...2_000_000), default: "1000", "watchers in all"),
                Setting(
                    "transports", .list, default: "websocket",
                    "used in turn: \(CrowdTransport.allCases.map(\.rawValue).joined(separator: ", "))"),
                Setting(
                    "slow-per-mille", .number(0...1_000), default: "0", "watchers that read 40 KiB a second"),
                Setting("stalled-per-mille", .number(0...1_000), default: "0", "watchers that read nothing"),
                Setting("connect-rate", .number(1...1_000_000), default: "5000", "connects a second"),
                Setting("seconds", .number(1...86_400), default: "60", "how long to watch"),
                Setting("accounts", .text, "file to write the accounts to, for audit"),
            ]
        case .publish:
            return [
                redis, Setting("auctions", .list, default: "hot-0", "auctions to publish on, in turn"),
                Setting("rate", .number(1...1_000_000), default: "5", "events a second over all auctions"),
                Setting("events", .number(1...100_000_000), default: "100", "events in all"),
                Setting("burst", .number(1...10_000), default: "1", "events that fall due at once"),
                Setting(
                    "filler-bytes", .number(0...8_192), default: "0", "added to each event of about 250 bytes"
                ),
                Setting(
                    "lossless-every", .number(0...1_000_000), default: "50",
                    "every Nth event of an auction is a TIME_EXTENDED; 0 means none"),
                Setting("truth", .text, "file to write what was published to, for audit"),
            ]
        case .bid:
            return [
                bidAPI, Setting("auctions", .number(1...10_000), default: "1", "auctions, made at the start"),
                Setting("bidders", .number(2...10_000), default: "100", "users, registered at the start"),
                Setting("connections", .number(1...1_000), default: "32", "requests under way at once"),
                Setting(
                    "contenders", .number(1...1_000), default: "1",
                    "bids at each price, of which one can be accepted"),
                Setting("rate", .number(1...1_000_000), default: "100", "bids a second over all auctions"),
                Setting("seconds", .number(1...86_400), default: "10", "how long to bid"),
            ]
        case .replay:
            return [
                bidAPI,
                Setting(
                    "csv", .file,
                    "recorded bids: columns auctionid, bid (the bidder's maximum), bidtime, bidder, openbid, price"
                ),
                Setting("connections", .number(1...200), default: "24", "auctions under way at once"),
                Setting(
                    "seconds", .number(1...3_600), default: "5",
                    "how long each auction lasts; its bids must fit"),
            ]
        case .audit:
            return [
                Setting("accounts", .file, "what watch wrote"),
                Setting("truth", .text, "what publish wrote"),
                Setting("database-url", .text, "instead of a truth file: the bid API's database"),
            ]
        case .floor:
            return [
                Setting(
                    "listen", .text, "serve as a bare gateway at HOST:PORT; without it the kernel is measured"
                ),
                redis, Setting("pattern", .text, default: "auction:*", "channels the bare gateway hears"),
                Setting("sockets", .number(1...9_500), default: "5000", "connections to send to"),
                Setting("bytes", .number(1...65_536), default: "280", "bytes of each send"),
                Setting("rounds", .number(1...10_000), default: "9", "rounds to run; the median is printed"),
            ]
        case .run:
            return [
                Setting("reports", .text, default: "loadtest/reports", "folder for the report"),
                Setting("quiet", .flag, default: "false", "do not print a progress line every second"),
            ]
        case .simulate: return Simulate.settings
        }
    }

    static var overview: String {
        """
        Load generator and auditor for Gavelcast.

        USAGE: gavelcast-loadtest COMMAND [--NAME VALUE ...]

        COMMANDS:

        """
            + allCases.map { "  \($0.rawValue.padded(to: 9))\($0.summary)\n" }.joined()
                + """

                Each command lists its settings with --help. SCENARIO is a file, or the name of one in loadtest/scenarios.

                EXIT STATUS: 0 after a clean run; 1 when an audit found a fault; 64 for a wrong command line; 69 when a server
                cannot be reached or a run cannot go on; 78 for a wrong setting.
                """
    }
}

extension String {
    fileprivate func padded(to count: Int) -> String {
        self + String(repeating: " ", count: max(0, count - self.count))
    }
}
