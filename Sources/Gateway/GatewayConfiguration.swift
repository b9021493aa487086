// The gateway's settings: the table, and the checked result.

import Foundation
package import Reactor
package import RedisLink
package import Settings
import Telemetry
package import Tokens
package import TransportSecurity

package struct GatewayConfiguration: Sendable {
    package var listen: SocketAddress
    package var adminListen: SocketAddress
    package var tlsListen: SocketAddress?
    /// Where the next process takes over; `nil` for nowhere.
    package var takeoverSocket: SocketAddress?
    /// Certificates and ticket keys; `nil` without `tls-listen`.
    package var tls: TLSServerContext?
    package var redisURLs: [RedisURL]
    /// Event loops, 1…64.
    package var workers: Int
    package var reusePort: Bool
    /// Allowed `Origin`s besides the request's own host; `*` allows all.
    package var origins: [String]
    /// The keys whose tokens are accepted; `nil` for none.
    package var tokenKeys: TokenKeys?
    /// True when every watch needs a token.
    package var requiresToken: Bool
    /// How many connections the limit on open files allows.
    let connectionCeiling: Int
    /// Connections in all; at most ``connectionCeiling``.
    package var maxConnections: Int
    /// At most so many connections of one IPv4 address or IPv6 /64; 0 for no limit.
    package var maxConnectionsPerAddress: Int
    /// Proxies whose `X-Forwarded-For` is believed.
    package var trustedProxies: [AddressBlock]
    /// True when connections from ``trustedProxies`` must begin with a PROXY protocol header.
    package var proxyProtocol: Bool
    /// At most so many connections are accepted by one loop a second; 0 for no limit.
    package var acceptsPerSecond: Int
    package var handshakeSeconds: Int
    package var headSeconds: Int
    /// How many seconds an HTTP connection may be idle between two requests.
    package var keepAliveSeconds: Int
    package var maxHeadBytes: Int
    package var maxMessageBytes: Int
    /// At most so many messages a second of one client; 0 for no limit.
    package var messagesPerSecond: Int
    /// Auctions on one WebSocket of `/v1/live`.
    package var maxSubscriptions: Int
    /// Resident memory above which new watchers are refused, in bytes.
    package var maxMemoryBytes: Int
    package var maxAuctions: Int
    package var historyEvents: Int
    package var historyBytes: Int
    /// After a bid was sent, bids of the next so many milliseconds merge; 0 turns merging off.
    package var conflateMilliseconds: Int
    package var sendBufferBytes: Int
    /// True when WebSocket messages are compressed for clients that offer it.
    package var deflates: Bool
    package var heartbeatSeconds: Int
    package var slowDeadlineSeconds: Int
    package var drainSeconds: Int
    /// The least time between two announcements of an auction's number of viewers; 0 for none.
    package var viewersSeconds: Int
    /// The bid API's address for the viewer page; empty when the page must not offer bidding.
    package var bidAPIURL: String
    /// Where spans are written; `nil` for nowhere.
    package var traceFile: String?
    /// A path whose WebSockets and requests are echoed; empty for none.
    package var echoPath: String

    /// The values as they were read. A reload compares them with the new ones.
    private let values: SettingsValues
    /// What a reload takes over; the other settings need a restart.
    private static let reloadable: Set<String> = [
        "tls-cert", "tls-key", "tls-ticket-key", "origins", "token-keys", "auth-required", "max-connections",
        "max-connections-per-ip", "trusted-proxies", "accepts-per-second", "handshake-seconds",
        "head-seconds", "keep-alive-seconds",
        "max-head-bytes", "max-message-bytes", "messages-per-second", "max-subscriptions", "max-memory-bytes",
    ]

    /// Checks what the table cannot: addresses, files, and the connection limit against the limit on open
    /// files.
    package init(_ values: SettingsValues, openFileLimit: Int, cores: Int) throws(SettingsError) {
        self.values = values
        listen = try Self.address("listen", values)
        adminListen = try Self.address("admin-listen", values)
        guard listen.port == 0 && listen.path == nil || listen != adminListen else {
            throw .configuration("admin-listen: is the same address as listen")
        }
        if !values.text("tls-listen").isEmpty { tlsListen = try Self.address("tls-listen", values) }
        tls = try Self.tls(values)
        takeoverSocket = try Self.takeoverSocket(values)
        redisURLs = try Self.redisURLs(values)
        workers = values.number("workers") == 0 ? max(1, min(cores, 64)) : values.number("workers")
        reusePort = values.flag("reuse-port")
        guard !reusePort || listen.path == nil && tlsListen?.path == nil else {
            throw .configuration("reuse-port: gateways cannot share a Unix socket; give each its own")
        }
        origins = values.list("origins")
        for origin in origins {
            if let fault = AllowedOrigins.fault(origin) { throw .configuration("origins: \(fault)") }
        }
        requiresToken = values.flag("auth-required")
        tokenKeys = try Self.tokenKeys(values)
        guard !requiresToken || tokenKeys != nil else {
            throw .configuration("auth-required: needs token-keys to check tokens with")
        }
        (connectionCeiling, maxConnections) = try Self.connectionLimits(
            values, openFileLimit: openFileLimit, workers: workers)
        maxConnectionsPerAddress = values.number("max-connections-per-ip")
        trustedProxies = try Self.trustedProxies(values)
        proxyProtocol = values.flag("proxy-protocol")
        acceptsPerSecond = values.number("accepts-per-second")
        handshakeSeconds = values.number("handshake-seconds")
        headSeconds = values.number("head-seconds")
        keepAliveSeconds = values.number("keep-alive-seconds")
        maxHeadBytes = values.number("max-head-bytes")
        maxMessageBytes = values.number("max-message-bytes")
        messagesPerSecond = values.number("messages-per-second")
        maxSubscriptions = values.number("max-subscriptions")
        let memory = values.number("max-memory-bytes")
        maxMemoryBytes = memory == 0 ? ProcessMemory.available() / 4 * 3 : memory
        maxAuctions = values.number("max-auctions")
        historyEvents = values.number("history-events")
        historyBytes = values.number("history-bytes")
        conflateMilliseconds = values.number("conflate-ms")
        sendBufferBytes = values.number("send-buffer-bytes")
        deflates = values.flag("deflate")
        heartbeatSeconds = values.number("heartbeat-seconds")
        slowDeadlineSeconds = values.number("slow-deadline-seconds")
        drainSeconds = values.number("drain-seconds")
        viewersSeconds = values.number("viewers-seconds")
        bidAPIURL = values.text("bid-api-url")
        if let fault = Self.bidAPIFault(bidAPIURL) { throw .configuration("bid-api-url: \(fault)") }
        traceFile = values.text("trace-file").isEmpty ? nil : values.text("trace-file")
        echoPath = values.text("echo-path")
        guard echoPath.isEmpty || echoPath.hasPrefix("/") else {
            throw .configuration("echo-path: '\(echoPath)' does not begin with /")
        }
        try checkCombinations()
    }

    private func checkCombinations() throws(SettingsError) {
        let isLocal = listen.path != nil || tlsListen?.path != nil
        guard !proxyProtocol || !trustedProxies.isEmpty || isLocal else {
            throw .configuration("proxy-protocol: needs trusted-proxies, the addresses that send the header")
        }
        guard echoPath.isEmpty || !requiresToken else {
            throw .configuration("echo-path: is open to everybody; remove echo-path or auth-required")
        }
    }

    private static func tokenKeys(_ values: SettingsValues) throws(SettingsError) -> TokenKeys? {
        let path = values.text("token-keys")
        guard !path.isEmpty else { return nil }
        do throws(TokenKey.Invalid) {
            return try TokenKeys(path: path)
        } catch {
            throw .configuration("token-keys: \(path) \(error)")
        }
    }

    /// How many connections the limit on open files allows, and how many of them are let in.
    private static func connectionLimits(
        _ values: SettingsValues, openFileLimit: Int, workers: Int
    ) throws(SettingsError) -> (ceiling: Int, maximum: Int) {
        let possible = min(
            openFileLimit - Limits.descriptorReserve - Limits.refusalReserve - 4 * workers,
            Limits.possibleConnections)
        let ceiling = max(1, possible)
        let wanted = values.number("max-connections")
        guard wanted <= possible else {
            throw .configuration(
                "max-connections: \(wanted) needs more open files than the limit of \(openFileLimit); raise it (ulimit -n)"
            )
        }
        return (ceiling, wanted == 0 ? ceiling : wanted)
    }

    /// What is wrong with `bid-api-url`; `nil` when it is an origin as browsers write it. The page's scripts
    /// call it, and the page's policy names it.
    private static func bidAPIFault(_ text: String) -> String? {
        if text.isEmpty { return nil }
        guard text.contains("@") || text.hasPrefix("http://") || text.hasPrefix("https://") else {
            return "'\(text)' begins with neither http:// nor https://"
        }
        return AllowedOrigins.fault(text)
    }

    /// These settings, with those that may change while the gateway runs taken from `new`. Also the names of
    /// settings that changed and need a restart.
    /// - Throws: when the changed settings contradict those that stay.
    func reloaded(
        from new: GatewayConfiguration
    ) throws(SettingsError) -> (GatewayConfiguration, ignored: [String]) {
        var result = self
        // The secure port stays, also when `tls-listen` is gone from the settings.
        result.tls = tls == nil ? nil : new.tls ?? tls
        result.origins = new.origins
        result.tokenKeys = new.tokenKeys
        result.requiresToken = new.requiresToken
        result.maxConnections = new.maxConnections
        // A new limit counts connections from now on.
        result.maxConnectionsPerAddress = new.maxConnectionsPerAddress
        result.trustedProxies = new.trustedProxies
        result.acceptsPerSecond = new.acceptsPerSecond
        result.handshakeSeconds = new.handshakeSeconds
        result.headSeconds = new.headSeconds
        result.keepAliveSeconds = new.keepAliveSeconds
        result.maxHeadBytes = new.maxHeadBytes
        result.maxMessageBytes = new.maxMessageBytes
        result.messagesPerSecond = new.messagesPerSecond
        result.maxSubscriptions = new.maxSubscriptions
        result.maxMemoryBytes = new.maxMemoryBytes
        try result.checkCombinations()
        return (result, new.values.changed(since: values).filter { !Self.reloadable.contains($0) })
    }

    private static func trustedProxies(_ values: SettingsValues) throws(SettingsError) -> [AddressBlock] {
        var blocks: [AddressBlock] = []
        for text in values.list("trusted-proxies") {
            guard let block = AddressBlock(text: text) else {
                throw .configuration("trusted-proxies: '\(text)' is not an address or block like 10.0.0.0/8")
            }
            blocks.append(block)
        }
        return blocks
    }

    private static func tls(_ values: SettingsValues) throws(SettingsError) -> TLSServerContext? {
        let certificates = values.list("tls-cert")
        let keys = values.list("tls-key")
        guard !values.text("tls-listen").isEmpty else {
            let idle = ["tls-cert", "tls-key", "tls-ticket-key"].first { !values.text($0).isEmpty }
            if let idle {
                throw .configuration("\(idle): has no effect without tls-listen; set both or neither")
            }
            return nil
        }
        guard !certificates.isEmpty else { throw .configuration("tls-listen: needs tls-cert and tls-key") }
        guard certificates.count == keys.count else {
            throw .configuration(
                "tls-key: \(keys.count) files for \(certificates.count) in tls-cert; give one key for each certificate"
            )
        }
        var ticketKey: [UInt8]?
        let path = values.text("tls-ticket-key")
        if !path.isEmpty {
            ticketKey = FileManager.default.contents(atPath: path).map(Array.init)
            guard ticketKey?.count == TLSServerContext.ticketKeyBytes else {
                throw .configuration(
                    "tls-ticket-key: '\(path)' must hold \(TLSServerContext.ticketKeyBytes) bytes; create it with openssl rand 80"
                )
            }
        }
        do throws(TLSError) {
            return try TLSServerContext(
                zip(certificates, keys).map { TLSCertificateFiles(certificate: $0, key: $1) },
                ticketKey: ticketKey)
        } catch {
            throw .configuration("tls-cert: \(error)")
        }
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

    private static func takeoverSocket(_ values: SettingsValues) throws(SettingsError) -> SocketAddress? {
        let path = values.text("takeover-socket")
        guard !path.isEmpty else { return nil }
        // The new socket waits under a name that is a little longer.
        guard let address = SocketAddress(path: path), SocketAddress(path: path + ".new") != nil else {
            throw .configuration("takeover-socket: '\(path)' is no absolute path of at most 103 bytes")
        }
        return address
    }

    private static func redisURLs(_ values: SettingsValues) throws(SettingsError) -> [RedisURL] {
        do throws(RedisURL.Invalid) {
            return try RedisURL.all(values.list("redis-url"))
        } catch {
            throw .configuration("redis-url: \(error)")
        }
    }
}
