// The gateway's settings: the table, and the checked result.

package import Reactor
package import RedisLink
package import Settings
package import Tokens

package struct GatewayConfiguration: Sendable {
    package var listen: SocketAddress
    package var adminListen: SocketAddress
    package var redisURLs: [RedisURL]
    /// Event loops, 1…64.
    package var workers: Int
    package var reusePort: Bool
    /// Allowed `Origin`s besides the request's own host; `*` allows all.
    package var origins: [String]
    /// The keys whose tokens are accepted; `nil` for none.
    package var tokenKeys: TokenKeys?
    /// Whether every watch needs a token.
    package var requiresToken: Bool
    /// Connections in all; at most what the descriptor limit allows.
    package var maxConnections: Int
    package var maxAuctions: Int
    package var historyEvents: Int
    package var historyBytes: Int
    /// Bids that come within so many milliseconds after one was sent merge; 0 for none.
    package var conflateMilliseconds: Int
    package var sendBufferBytes: Int
    package var heartbeatSeconds: Int
    package var slowDeadlineSeconds: Int
    package var drainSeconds: Int
    /// The least time between two announcements of an auction's number of viewers; 0 for none.
    package var viewersSeconds: Int
    /// Told to the viewer page; empty when the page shall not offer bidding.
    package var bidAPIURL: String
    /// A path whose WebSockets and requests are echoed; empty for none.
    package var echoPath: String

    /// Checks what the table cannot: addresses, and the connection limit against the limit on open files.
    package init(_ values: SettingsValues, openFileLimit: Int, cores: Int) throws(SettingsError) {
        listen = try Self.address("listen", values)
        adminListen = try Self.address("admin-listen", values)
        redisURLs = try Self.redisURLs(values)
        workers = values.number("workers") == 0 ? max(1, min(cores, 64)) : values.number("workers")
        reusePort = values.flag("reuse-port")
        origins = values.list("origins")
        requiresToken = values.flag("auth-required")
        tokenKeys = nil
        if !values.text("token-keys").isEmpty {
            do throws(TokenKey.Invalid) {
                tokenKeys = try TokenKeys(path: values.text("token-keys"))
            } catch {
                throw .configuration("token-keys: \(values.text("token-keys")) \(error)")
            }
        }
        guard !requiresToken || tokenKeys != nil else {
            throw .configuration("auth-required: needs token-keys to check tokens with")
        }
        let possible = openFileLimit - Limits.descriptorReserve - Limits.refusalReserve - 4 * workers
        let wanted = values.number("max-connections")
        guard wanted <= possible else {
            throw .configuration(
                "max-connections: \(wanted) needs more open files than the limit of \(openFileLimit); raise it (ulimit -n)"
            )
        }
        maxConnections = wanted == 0 ? max(1, possible) : wanted
        maxAuctions = values.number("max-auctions")
        historyEvents = values.number("history-events")
        historyBytes = values.number("history-bytes")
        conflateMilliseconds = values.number("conflate-ms")
        sendBufferBytes = values.number("send-buffer-bytes")
        heartbeatSeconds = values.number("heartbeat-seconds")
        slowDeadlineSeconds = values.number("slow-deadline-seconds")
        drainSeconds = values.number("drain-seconds")
        viewersSeconds = values.number("viewers-seconds")
        bidAPIURL = values.text("bid-api-url")
        echoPath = values.text("echo-path")
        guard echoPath.isEmpty || echoPath.hasPrefix("/") else {
            throw .configuration("echo-path: '\(echoPath)' does not begin with /")
        }
        guard echoPath.isEmpty || !requiresToken else {
            throw .configuration("echo-path: is open to everybody, which auth-required forbids")
        }
        guard !origins.contains("null") else {
            throw .configuration("origins: 'null' is no origin to trust; only * includes it")
        }
    }

    private static func address(_ name: String, _ values: SettingsValues) throws(SettingsError)
        -> SocketAddress
    {
        guard let address = SocketAddress(text: values.text(name)) else {
            throw .configuration("\(name): '\(values.text(name))' is no HOST:PORT")
        }
        return address
    }

    private static func redisURLs(_ values: SettingsValues) throws(SettingsError) -> [RedisURL] {
        var urls: [RedisURL] = []
        for text in values.list("redis-url") {
            do throws(RedisURL.Invalid) {
                urls.append(try RedisURL(text: text))
            } catch {
                throw .configuration("redis-url: the address \(error)")
            }
        }
        guard !urls.isEmpty else { throw .configuration("redis-url: at least one server is needed") }
        return urls
    }
}
