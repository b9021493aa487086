// swift-tools-version: 6.2
import PackageDescription

// `GAVELCAST_STRICT=1` (set by the targets of `make` that build the tests) turns our own warnings into errors;
// a user's build with a newer compiler is not stopped by a new warning.
let strict = Context.environment["GAVELCAST_STRICT"] == "1"

// `GAVELCAST_FUZZ=1` (set by `make fuzz`) adds the fuzz targets and watches which code they reach.
let fuzzes = Context.environment["GAVELCAST_FUZZ"] == "1"

let settings: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        // The run-time check of overlapping accesses costs two calls at each touch of a loop's state. Debug
        // builds, and so the tests, keep it.
        .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
    ] + (strict ? [.treatAllWarnings(as: .error)] : [])
    + (fuzzes ? [.unsafeFlags(["-sanitize=fuzzer"])] : [])

func module(
    _ name: String, _ dependencies: [Target.Dependency] = [], path: String? = nil, exclude: [String] = [],
    resources: [Resource] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: path, exclude: exclude, resources: resources,
        swiftSettings: settings)
}

func program(_ name: String, _ dependencies: [Target.Dependency], path: String? = nil) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")

let fuzzing: [Target] =
    fuzzes
    ? [
        .systemLibrary(name: "CLibFuzzer", path: "fuzz/Sources/CLibFuzzer"),
        .executableTarget(
            name: "gavelcast-fuzz",
            dependencies: ["AuctionEvents", "CLibFuzzer", "Compression", "RedisLink", "Tokens", "Wire"],
            path: "fuzz/Sources/gavelcast-fuzz", swiftSettings: [.swiftLanguageMode(.v6)],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]),
    ] : []

let package = Package(
    name: "gavelcast",
    platforms: [.macOS(.v26)],
    products: [
        .executable(name: "gavelcast-gateway", targets: ["gavelcast-gateway"]),
        .executable(name: "gavelcast-bidapi", targets: ["gavelcast-bidapi"]),
        .executable(name: "gavelcast-loadtest", targets: ["gavelcast-loadtest"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.2.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.2"),
    ],
    targets: [
        // C libraries: module maps and static inline wrappers.
        .systemLibrary(name: "CLinux"),
        .systemLibrary(name: "CHiredis"),
        .systemLibrary(name: "COpenSSL"),
        .systemLibrary(name: "CLibPQ"),
        .systemLibrary(name: "CZlib"),
        .systemLibrary(name: "CLibURing"),

        // Pure: no descriptors, clocks or logs.
        module("AuctionEvents"),
        module("Wire"),
        module("LiveProtocol", ["AuctionEvents", "Wire"]),
        module("Fanout", ["LiveProtocol", deque]),
        module("Bidding", ["AuctionEvents"]),

        // The edge: kernel, Redis, PostgreSQL, cryptography, logs, settings.
        module("Reactor", ["CLinux"]),
        module("Compression", ["CZlib"]),
        module("TransportSecurity", ["CLinux", "COpenSSL", "Reactor"]),
        module(
            "RedisLink",
            ["CLinux", "CHiredis", "COpenSSL", "Reactor", "TransportSecurity", "Wire", deque]),
        module("Tokens", ["COpenSSL"]),
        module("Telemetry", ["AuctionEvents", "CLinux", logging]),
        module("Settings", [.product(name: "Yams", package: "Yams")]),
        module(
            "AuctionStore", ["AuctionEvents", "Bidding", "CLibPQ"],
            resources: [
                .embedInCode("Schema/v1_auctions.sql"), .embedInCode("Schema/v2_proxy_bids.sql"),
                .embedInCode("Schema/v3_idempotency_keys.sql"),
                .embedInCode("Schema/v4_people_and_lists.sql"),
                .embedInCode("Schema/v5_currency_decimals.sql"), .embedInCode("Schema/v6_replica_beat.sql"),
            ]),

        // The services.
        module(
            "Gateway",
            [
                "AuctionEvents", "Wire", "LiveProtocol", "Fanout", "Reactor", "RedisLink", "Telemetry",
                "Settings",
                "Tokens",
                "TransportSecurity", "Compression", "CLinux", "COpenSSL",
                deque, logging,
            ],
            exclude: ["Viewer/package.json"],
            resources: [
                .embedInCode("Viewer/index.html"), .embedInCode("Viewer/style.css"),
                .embedInCode("Viewer/gavelcast.js"), .embedInCode("Viewer/gavelcast.d.ts"),
                .embedInCode("Viewer/api.js"), .embedInCode("Viewer/app.js"),
                .embedInCode("Viewer/bidding.js"), .embedInCode("Viewer/dialogs.js"),
                .embedInCode("Viewer/list.js"), .embedInCode("Viewer/lots.js"),
                .embedInCode("Viewer/money.js"), .embedInCode("Viewer/pictures.js"),
                .embedInCode("Viewer/room.js"), .embedInCode("Viewer/speech.js"),
                .embedInCode("Viewer/wall.js"),
            ]),
        program("gavelcast-gateway", ["Gateway", "Settings", "Telemetry", "Reactor", logging]),
        module(
            "BidAPI",
            [
                "AuctionEvents", "Bidding", "AuctionStore", "Reactor", "RedisLink", "Tokens", "Telemetry",
                "Settings", "Wire",
                hummingbird, logging,
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], resources: [.embedInCode("openapi.json")]),
        program("gavelcast-bidapi", ["BidAPI", "Settings", "Telemetry", "Reactor", logging]),

        // The load generator; its blocking client also drives the end-to-end tests.
        module(
            "LoadClient", ["CLinux", "Compression", "Reactor", "TransportSecurity"],
            path: "loadtest/Sources/LoadClient"),
        module(
            "LocalServers", ["AuctionStore", "CLinux", "Reactor", "RedisLink", "TransportSecurity"],
            path: "loadtest/Sources/LocalServers"),
        module(
            "LoadEngine",
            [
                "AuctionEvents", "CLinux", "Fanout", "Reactor", "RedisLink", "CLibURing", "COpenSSL",
                "CHiredis", "Compression", "TransportSecurity", "Wire", deque,
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "loadtest/Sources/LoadEngine"),
        module(
            "LoadRun",
            [
                "AuctionStore", "CLinux", "LoadClient", "LoadEngine", "LocalServers", "Reactor", "RedisLink",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Yams", package: "Yams"),
            ],
            path: "loadtest/Sources/LoadRun", resources: [.embedInCode("report.html")]),
        program(
            "gavelcast-loadtest",
            [
                "AuctionStore", "CLinux", "LoadClient", "LoadEngine", "LoadRun", "RedisLink", "Reactor",
                .product(name: "Histogram", package: "hdrhistogram-swift"), "LocalServers", "Settings",
            ],
            path: "loadtest/Sources/gavelcast-loadtest"),

        module("TestSupport", ["AuctionEvents"], path: "Tests/TestSupport"),
        tests("AuctionEventsTests", ["AuctionEvents", "TestSupport"]),
        tests("WireTests", ["Wire", "LoadClient", "TestSupport"]),
        tests("FanoutTests", ["Fanout", "LiveProtocol", "TestSupport"]),
        tests("BiddingTests", ["Bidding", "AuctionEvents", "TestSupport"]),
        tests("ReactorTests", ["CLinux", "Reactor", "LocalServers"]),
        tests("CompressionTests", ["Compression", "TestSupport"]),
        tests("RedisLinkTests", ["RedisLink", "TestSupport"]),
        tests("TokensTests", ["Tokens"]),
        tests("LoadEngineTests", ["LoadEngine", "LoadRun", "TestSupport"]),
        tests("SettingsTests", ["Settings", "Gateway", "BidAPI"]),
        tests(
            "GatewayTests",
            [
                "AuctionEvents", "Gateway", "Fanout", "LiveProtocol", "LocalServers", "Reactor", "Settings",
                "Telemetry", "TestSupport", "TransportSecurity", "Wire", "CLinux", logging,
            ]),
        tests("AuctionStoreTests", ["AuctionStore"]),
        tests("TelemetryTests", ["AuctionEvents", "Telemetry"]),
        tests(
            "TransportSecurityTests", ["CLinux", "LocalServers", "Reactor", "TransportSecurity"]),
        tests("BidAPITests", ["AuctionEvents", "BidAPI", "TestSupport", logging]),
        tests("TidyTests", []),
        tests(
            "EndToEndTests",
            [
                "LoadClient", .product(name: "Yams", package: "Yams"), "LoadEngine", "LoadRun",
                "LocalServers", "RedisLink", "AuctionEvents",
                "AuctionStore",
                "Bidding", "Reactor", "Tokens", "TestSupport",
                "TransportSecurity", "CLinux", .product(name: "Histogram", package: "hdrhistogram-swift"),
            ]),
    ] + fuzzing
)
