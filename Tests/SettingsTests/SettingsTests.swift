import BidAPI
import Gateway
import Settings
import Testing

@Suite struct SettingsTests {
    private let schema = SettingsSchema(
        program: "p", summary: "s",
        settings: [
            Setting("redis-url", .list, default: "redis://a", ""),
            Setting("workers", .number(1...8), default: "2", ""),
            Setting("reuse-port", .flag, default: "false", ""),
            Setting("listen", .address, default: "127.0.0.1:1", ""),
            Setting("log-format", .choice(["json", "text"]), default: "json", ""),
            Setting("token-keys", .file, ""),
        ])

    private struct Missing: Error {}

    private func read(
        _ arguments: [String], environment: [String: String] = [:], file: String? = nil
    ) throws(SettingsError) -> SettingsValues {
        let reader = SettingsReader(schema: schema) { path in
            guard let file, path == "f.yml" else { throw Missing() }
            return file
        }
        guard case .run(let values) = try reader.read(arguments: arguments, environment: environment) else {
            throw .usage("not to be run")
        }
        return values
    }

    @Test("flags win over variables, variables over the file, the file over the default")
    func strength() throws {
        let file = "workers: 3\nredis-url: [redis://f1, redis://f2]\n"
        #expect(try read([]).number("workers") == 2)
        #expect(try read(["--config", "f.yml"], file: file).number("workers") == 3)
        #expect(
            try read(["--config=f.yml"], environment: ["WORKERS": "4"], file: file).number("workers") == 4)
        let strongest = try read(
            ["--config", "f.yml", "--workers", "5"], environment: ["WORKERS": "4"], file: file)
        #expect(
            strongest.number("workers") == 5 && strongest.list("redis-url") == ["redis://f1", "redis://f2"])
    }

    @Test("lists are repeated flags, commas in a variable, or a YAML list")
    func lists() throws {
        #expect(try read(["--redis-url", "a", "--redis-url=b"]).list("redis-url") == ["a", "b"])
        #expect(try read([], environment: ["REDIS_URL": "a, b"]).list("redis-url") == ["a", "b"])
        #expect(try read(["--reuse-port"]).flag("reuse-port"))
        #expect(try read(["--reuse-port", "false"]).flag("reuse-port") == false)
    }

    @Test(
        "a wrong command line is one line that names the flag, with status 64",
        arguments: [
            (["--nope"], "nope"), (["x"], "x"), (["--workers"], "workers"),
            (["--workers", "many"], "workers"),
            (["--workers", "9"], "workers"), (["--workers", "1", "--workers", "2"], "workers"),
            (["--listen", "nowhere"], "listen"), (["--log-format", "xml"], "log-format"),
            (["--reuse-port=maybe"], "reuse-port"),
        ])
    func wrongFlags(arguments: [String], name: String) {
        do throws(SettingsError) {
            _ = try read(arguments)
            Issue.record("accepted \(arguments)")
        } catch {
            #expect(
                error.exitStatus == 64 && error.description.contains(name)
                    && !error.description.contains("\n"))
        }
    }

    @Test(
        "a wrong configuration is one line that names the key, with status 78",
        arguments: [
            ("nope: 1", "nope"), ("workers: many", "workers"), ("workers: [1, 2]", "workers"),
            ("- a", "f.yml"),
            ("a: [", "f.yml"), ("redis-url: [[a]]", "redis-url"), ("listen: {a: b}", "listen"),
            ("token-keys: gone.json", "gone.json"),
        ])
    func wrongFile(text: String, name: String) {
        do throws(SettingsError) {
            _ = try read(["--config", "f.yml"], file: text)
            Issue.record("accepted \(text)")
        } catch {
            #expect(
                error.exitStatus == 78 && error.description.contains(name)
                    && !error.description.contains("\n"))
        }
    }

    @Test("a missing file and a bad variable have status 78")
    func missingFile() {
        #expect(throws: SettingsError.configuration("config: cannot read 'gone.yml'")) {
            try read(["--config", "gone.yml"])
        }
        #expect(throws: SettingsError.configuration("WORKERS: 'x' is no whole number")) {
            try read([], environment: ["WORKERS": "x"])
        }
    }

    @Test("the help of each program names every setting and its default")
    func help() {
        for schema in [GatewaySettings.schema, BidAPISettings.schema] {
            for setting in schema.settings {
                #expect(
                    schema.help.contains("--\(setting.name) ") || schema.help.contains("--\(setting.name)\n"))
                #expect(schema.help.contains(setting.variable) && schema.help.contains(setting.defaultText))
            }
        }
    }

    @Test("the gateway refuses more connections than the limit on open files allows")
    func descriptorLimit() throws {
        let reader = SettingsReader(schema: GatewaySettings.schema) { _ in throw Missing() }
        func configuration(_ arguments: [String]) throws -> GatewayConfiguration {
            guard case .run(let values) = try reader.read(arguments: arguments, environment: [:]) else {
                throw Missing()
            }
            return try GatewayConfiguration(values, openFileLimit: 1_000, cores: 2)
        }
        #expect(throws: SettingsError.self) { try configuration(["--max-connections", "1000"]) }
        #expect(try configuration(["--max-connections", "500"]).maxConnections == 500)
        #expect(try configuration([]).maxConnections < 1_000)
        #expect(throws: SettingsError.self) { try configuration(["--redis-url", "http://x"]) }
    }
}
