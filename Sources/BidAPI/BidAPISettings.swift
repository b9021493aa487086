// The bid API's settings: the table, and the checked result.

import AuctionStore
package import Bidding
package import Reactor
package import RedisLink
package import Settings
package import Tokens

package struct BidAPIConfiguration: Sendable {
    package var listen: SocketAddress
    package var adminListen: SocketAddress
    package var databaseURL: String
    /// A replica for lists and histories; `nil` for none.
    package var databaseReadURL: String?
    /// How old the replica's data may be.
    package var readLagMilliseconds: Int64
    package var redisURLs: [RedisURL]
    /// Origins whose pages may call; `*` allows all.
    package var origins: [String]
    /// At least one of the keys can sign. `nil`: the bid API makes a key at start.
    package var tokenKeys: TokenKeys?
    package var antiSniping: AntiSniping
    /// 0 = no limit.
    package var bidsPerMinute: Int
    /// 0 = no limit.
    package var auctionsPerHour: Int
    /// 0 = no limit.
    package var searchesPerMinute: Int
    /// The proxies whose `X-Forwarded-For` the bid API trusts.
    package var trustedProxies: [AddressBlock]
    /// Where spans are written; `nil` for nowhere.
    package var traceFile: String?

    /// Checks what the settings table cannot check.
    package init(_ values: SettingsValues) throws(SettingsError) {
        listen = try Self.address("listen", values)
        adminListen = try Self.address("admin-listen", values)
        guard listen.port == 0 && listen.path == nil || listen != adminListen else {
            throw .configuration("admin-listen: is the same address as listen")
        }
        databaseURL = values.text("database-url")
        if let fault = DatabaseURL.fault(databaseURL) { throw .configuration("database-url: \(fault)") }
        databaseReadURL = nil
        if !values.text("database-read-url").isEmpty {
            let url = values.text("database-read-url")
            if let fault = DatabaseURL.fault(url) { throw .configuration("database-read-url: \(fault)") }
            databaseReadURL = url
        }
        readLagMilliseconds = Int64(values.number("read-lag-seconds")) * 1_000
        do throws(RedisURL.Invalid) {
            redisURLs = try RedisURL.all(values.list("redis-url"))
        } catch {
            throw .configuration("redis-url: \(error)")
        }
        origins = values.list("origins")
        for origin in origins {
            if let fault = AllowedOrigins.fault(origin) { throw .configuration("origins: \(fault)") }
        }
        tokenKeys = nil
        if !values.text("token-keys").isEmpty {
            do throws(TokenKey.Invalid) {
                let keys = try TokenKeys(path: values.text("token-keys"))
                guard keys.signing != nil else {
                    throw TokenKey.Invalid(description: "has no private key to sign with")
                }
                tokenKeys = keys
            } catch {
                throw .configuration("token-keys: \(values.text("token-keys")) \(error)")
            }
        }
        antiSniping = AntiSniping(
            windowMilliseconds: Int64(values.number("snipe-window-seconds")) * 1_000,
            extensionMilliseconds: Int64(values.number("snipe-extension-seconds")) * 1_000)
        bidsPerMinute = values.number("bids-per-minute")
        auctionsPerHour = values.number("auctions-per-hour")
        searchesPerMinute = values.number("searches-per-minute")
        trustedProxies = []
        for text in values.list("trusted-proxies") {
            guard let block = AddressBlock(text: text) else {
                throw .configuration("trusted-proxies: '\(text)' is not an address or block like 10.0.0.0/8")
            }
            trustedProxies.append(block)
        }
        traceFile = values.text("trace-file").isEmpty ? nil : values.text("trace-file")
    }

    private static func address(_ name: String, _ values: SettingsValues) throws(SettingsError)
        -> SocketAddress
    {
        guard let address = SocketAddress(text: values.text(name)) else {
            throw .configuration(
                "\(name): '\(values.text(name))' is neither HOST:PORT nor unix:/PATH of at most 107 bytes")
        }
        return address
    }
}

package enum BidAPISettings {
    package static let schema = SettingsSchema(
        program: "gavelcast-bidapi",
        summary: """
            The bid API: commits bids to PostgreSQL, then publishes them through Redis.
            gavelcast-bidapi keys makes a file with a new key, gavelcast-bidapi token makes a token; both take --help.
            """,
        settings: [
            Setting("listen", .address, default: "127.0.0.1:8081", "public address"),
            Setting("admin-listen", .address, default: "127.0.0.1:9081", "address of health and metrics"),
            Setting(
                "database-url", .text, default: "postgresql://127.0.0.1:5432/gavelcast",
                mayHoldPassword: true,
                "PostgreSQL, as libpq takes it"),
            Setting(
                "database-read-url", .text, mayHoldPassword: true,
                "a replica of PostgreSQL for lists, searches and bid histories; empty means the primary"),
            Setting(
                "read-lag-seconds", .number(1...3_600), default: "5",
                "the replica serves while its data are at most this old"),
            Setting(
                "redis-url", .list, default: "redis://127.0.0.1:6379", mayHoldPassword: true,
                "Redis servers, or one redis+sentinel:// or redis+cluster://; give the gateway the same in the same order"
            ),
            Setting(
                "origins", .list, default: "http://127.0.0.1:8080,http://localhost:8080",
                "origins whose pages may call; * allows all"),
            Setting(
                "token-keys", .file,
                "JWKS file; its first private key signs tokens; without a file, each start makes a new key"),
            Setting(
                "snipe-window-seconds", .number(0...86_400), default: "30",
                "a bid this close to the end extends the auction"),
            Setting(
                "snipe-extension-seconds", .number(1...86_400), default: "120",
                "how long after such a bid the auction then ends"),
            Setting(
                "bids-per-minute", .number(0...1_000_000), default: "10", "bids by one user; 0 means no limit"
            ),
            Setting(
                "auctions-per-hour", .number(0...1_000_000), default: "5",
                "auctions created by one user; 0 means no limit"),
            Setting(
                "searches-per-minute", .number(0...1_000_000), default: "30",
                "searches of one user, or of one address; 0 means no limit"),
            Setting(
                "trusted-proxies", .list,
                "addresses or blocks (10.0.0.0/8) of proxies whose X-Forwarded-For is trusted"),
            Setting(
                "trace-file", .text,
                "a file to which traced bids are added as OTLP JSON lines; empty writes none"),
            Setting(
                "log-format", .choice(["json", "text"]), default: "json", "one JSON object per line, or text"),
            Setting(
                "log-level", .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
                default: "info", "least severe message that is logged"),
        ])
}
