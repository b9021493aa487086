// The table of the gateway's settings.

package import Settings

package enum GatewaySettings {
    package static let schema = SettingsSchema(
        program: "gavelcast-gateway",
        summary: "The fan-out gateway: brings an auction's events from Redis to its watchers.",
        settings: [
            Setting("listen", .address, default: "127.0.0.1:8080", "public address; port 0 takes a free one"),
            Setting(
                "admin-listen", .address, default: "127.0.0.1:9080", "address of health, metrics and control"),
            Setting(
                "redis-url", .list, default: "redis://127.0.0.1:6379", mayHoldPassword: true,
                "Redis servers, or one redis+sentinel:// or redis+cluster://; give the bid API the same in the same order"
            ),
            Setting("workers", .number(0...64), default: "0", "event loops; 0 means one per core"),
            Setting("reuse-port", .flag, default: "false", "let several gateways share the public port"),
            Setting(
                "takeover-socket", .text,
                "a Unix socket's path; the next gateway process takes over listeners and watchers there"),
            Setting("tls-listen", .address, "public address for TLS; empty turns TLS off"),
            Setting(
                "tls-cert", .list,
                "PEM files with a certificate and its chain; the host name in SNI selects one"),
            Setting("tls-key", .list, "PEM files with the certificates' private keys, in the same order"),
            Setting(
                "tls-ticket-key", .file,
                "80 random bytes, the same on all gateways, so that clients can resume TLS sessions on any"),
            Setting("origins", .list, "origins that may watch, besides the gateway's own host; * allows all"),
            Setting(
                "token-keys", .file, "JWKS file with the keys whose tokens are accepted; public keys suffice"),
            Setting("auth-required", .flag, default: "false", "every watch needs a token"),
            Setting(
                "max-connections", .number(0...Limits.possibleConnections), default: "0",
                "connections at once; 0 means as many as the limit on open files allows"),
            Setting(
                "max-connections-per-ip", .number(0...Limits.possibleConnections), default: "0",
                "connections from one IPv4 address or IPv6 /64; 0 means no limit"),
            Setting(
                "trusted-proxies", .list,
                "addresses or blocks (10.0.0.0/8) of proxies whose X-Forwarded-For is trusted"),
            Setting(
                "proxy-protocol", .flag, default: "false",
                "connections of trusted proxies begin with a PROXY protocol header, version 2"),
            Setting(
                "accepts-per-second", .number(0...1_000_000), default: "0",
                "connections each event loop accepts per second; the rest wait; 0 means no limit"),
            Setting(
                "handshake-seconds", .number(1...3_600), default: "10",
                "time for a TLS handshake"),
            Setting(
                "head-seconds", .number(1...3_600), default: "10",
                "time for a request's head"),
            Setting(
                "keep-alive-seconds", .number(1...3_600), default: "75",
                "how long an HTTP connection may be idle between two requests"),
            Setting("max-head-bytes", .number(512...65_535), default: "8192", "the longest request head"),
            Setting(
                "max-message-bytes", .number(125...Limits.clientMessageBytes), default: "4096",
                "the longest message of a WebSocket client"),
            Setting(
                "messages-per-second", .number(0...1_000_000), default: "20",
                "frames per second from one WebSocket client (bursts of 10 s' worth); more closes it; 0 means no limit"
            ),
            Setting(
                "max-subscriptions", .number(1...100_000), default: "1000",
                "auctions on one WebSocket of /v1/live"),
            Setting(
                "max-memory-bytes", .number(0...1 << 50), default: "0",
                "resident memory above which new watchers are refused; 0 means 3/4 of the machine's or cgroup's memory"
            ),
            Setting("max-auctions", .number(1...10_000_000), default: "200000", "auctions watched at once"),
            Setting(
                "history-events", .number(1...1_000_000), default: "256", "events kept for replay per auction"
            ),
            Setting(
                "history-bytes", .number(65_536...1 << 40), default: "\(256 << 20)",
                "bytes of events kept for replay, in all"),
            Setting(
                "conflate-ms", .number(0...10_000), default: "0",
                "after sending a bid, merge the bids of the next N milliseconds into one; 0 sends each"),
            Setting(
                "send-buffer-bytes", .number(4_608...1 << 26), default: "32768",
                "kernel send buffer per socket"),
            Setting(
                "deflate", .flag, default: "true", "compress WebSocket messages for clients that offer it"),
            Setting("heartbeat-seconds", .number(1...3_600), default: "25", "time between two pings"),
            Setting(
                "slow-deadline-seconds", .number(1...3_600), default: "30",
                "a watcher that reads nothing for this long is closed with 4008"),
            Setting(
                "drain-seconds", .number(0...3_600), default: "30",
                "spread the closes of a drain, and those after an auction's end, over this time"),
            Setting(
                "viewers-seconds", .number(0...3_600), default: "5",
                "shortest time between two VIEWERS messages of an auction; 0 turns them off"),
            Setting(
                "bid-api-url", .text, default: "http://127.0.0.1:8081", "where the viewer page sends bids"),
            Setting(
                "trace-file", .text,
                "a file to which traced deliveries are added as OTLP JSON lines; empty writes none"),
            Setting(
                "echo-path", .text,
                "a path that echoes WebSocket messages and request bodies, for conformance suites"),
            Setting(
                "log-format", .choice(["json", "text"]), default: "json", "one JSON object per line, or text"),
            Setting(
                "log-level", .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
                default: "info", "least severe message that is logged"),
        ])
}
