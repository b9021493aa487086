import BidAPI
import Gateway
import Testing

@testable import Settings

/// What `--print-config` prints.
@Suite struct SettingsListingTests {
    private struct Missing: Error {}

    private func read(
        _ schema: SettingsSchema, _ arguments: [String], environment: [String: String] = [:],
        file: String = ""
    ) throws -> SettingsValues {
        let reader = SettingsReader(schema: schema) { path in
            guard path == "f.yml" else { throw Missing() }
            return file
        }
        guard
            case .printConfiguration(let values) = try reader.read(
                arguments: arguments + ["--print-config"], environment: environment)
        else { throw Missing() }
        return values
    }

    @Test("each setting is a line with its value and its source, and no password")
    func lines() throws {
        let values = try read(
            BidAPISettings.schema, ["--listen", "127.0.0.1:1", "--config", "f.yml"],
            environment: ["DATABASE_URL": "postgresql://app:secret@db/g"],
            file: "redis-url: [redis://:secret@a, redis://b]\nbids-per-minute: 7\n")
        let lines = values.listing(BidAPISettings.schema).split(separator: "\n").map { line in
            line.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
        }
        #expect(lines.count == BidAPISettings.schema.settings.count)
        for line in [
            "listen: '127.0.0.1:1' # flag", "bids-per-minute: 7 # file f.yml",
            "database-url: 'postgresql://app:***@db/g' # variable DATABASE_URL",
            "redis-url: ['redis://:***@a', 'redis://b'] # file f.yml",
            "# database-read-url: # not set", "auctions-per-hour: 5 # default",
        ] {
            #expect(lines.contains(line), "\(line)")
        }
    }

    @Test("the output is a configuration file that says the same")
    func readBack() throws {
        let arguments = [
            "--redis-url", "redis://a", "--redis-url", "redis://b", "--origins", "it's", "--reuse-port",
            "--workers", "3",
        ]
        let schema = GatewaySettings.schema
        let values = try read(schema, arguments)
        let again = try read(schema, ["--config", "f.yml"], file: values.listing(schema))
        #expect(again.changed(since: values) == [])
    }

    @Test(
        "passwords are masked wherever an address may have them",
        arguments: [
            ("redis://h:1", "redis://h:1"), ("redis://u:secret@h/2", "redis://u:***@h/2"),
            (
                "rediss+sentinel://:secret@a,b/m?sentinel_user=u&sentinel_password=secret",
                "rediss+sentinel://:***@a,b/m?sentinel_user=u&sentinel_password=***"
            ),
            ("unix://u:secret@/run/r.sock", "unix://u:***@/run/r.sock"),
            (
                "postgresql://u:se:cret@h1:1,h2/db?sslpassword=secret&sslmode=require",
                "postgresql://u:***@h1:1,h2/db?sslpassword=***&sslmode=require"
            ),
            ("postgresql://h/db?user=u&password=secret", "postgresql://h/db?user=u&password=***"),
            ("host=h password=secret user=u", "host=h password=*** user=u"),
            (#"password = 'a \' secret' host=h"#, "password = *** host=h"),
        ])
    func masks(address: String, masked: String) {
        #expect(SettingsValues.masked(address) == masked)
    }
}
