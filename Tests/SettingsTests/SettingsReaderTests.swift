import BidAPI
import Gateway
import Settings
import Testing

@Suite struct SettingsReaderTests {
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
            (["--nope"], "nope"), (["x"], "--help"), (["--workers"], "workers"),
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
        #expect(throws: SettingsError.configuration("WORKERS: 'x' is not an integer")) {
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

    // MARK: What can be known without a network

    private func gateway(_ arguments: [String]) throws(SettingsError) -> GatewayConfiguration {
        guard case .run(let values) = try read(arguments, schema: GatewaySettings.schema) else {
            throw .usage("not to be run")
        }
        return try GatewayConfiguration(values, openFileLimit: 10_000, cores: 2)
    }

    private func bidAPI(_ arguments: [String]) throws(SettingsError) -> BidAPIConfiguration {
        guard case .run(let values) = try read(arguments, schema: BidAPISettings.schema) else {
            throw .usage("not to be run")
        }
        return try BidAPIConfiguration(values)
    }

    private func read(_ arguments: [String], schema: SettingsSchema) throws(SettingsError) -> Invocation {
        try SettingsReader(schema: schema) { _ in throw Missing() }.read(
            arguments: arguments, environment: [:])
    }

    /// The one line that refuses the settings.
    private func fault(_ body: () throws(SettingsError) -> Void) -> String? {
        do throws(SettingsError) {
            try body()
            return nil
        } catch {
            #expect(error.exitStatus == 78 && !error.description.contains("\n"))
            return error.description
        }
    }

    @Test(
        "origins that no browser would send are refused by both programs, with the remedy",
        arguments: [
            ("https://a.example/", "path"), ("a.example", "https://a.example"),
            ("https://*.example.com", "wildcard"),
            ("https://A.example", "lower case"), ("HTTPS://a.example", "lower case"),
            ("https://a.example:443", "default"),
            ("http://a.example:80", "default"), ("https://a.example:99999", "port"),
            ("https://a.example:", "port"),
            ("https://", "host"), ("https://u@a.example", "credentials"), ("null", "null"),
            ("https://a.example/x", "path"),
            ("https://b\u{FC}cher.example", "punycode"), ("", "scheme"),
        ])
    func badOrigins(origin: String, remedy: String) {
        for text in [
            fault { () throws(SettingsError) in _ = try gateway(["--origins", origin]) },
            fault { () throws(SettingsError) in _ = try bidAPI(["--origins", origin]) },
        ] {
            #expect(
                text?.hasPrefix("origins:") == true && text?.contains(remedy) == true, "\(text ?? "accepted")"
            )
        }
    }

    @Test(
        "origins as browsers send them are accepted",
        arguments: [
            "*", "https://a.example", "http://a.example:8080", "https://a.example:80", "http://[::1]:3000",
            "http://localhost", "capacitor://localhost", "https://xn--bcher-kva.example",
        ])
    func goodOrigins(origin: String) throws {
        #expect(try gateway(["--origins", origin]).origins == [origin])
        #expect(try bidAPI(["--origins", origin]).origins == [origin])
    }

    @Test(
        "database addresses that cannot be used are refused, without a word of what they hold",
        arguments: [
            "mysql://u:hunter2@h/db", "postgresql://u:hunter2@h/db?sslmode=bogus",
            "postgresql://u:hunter2@h:99999/db",
            "postgresql://u:hunter2@h:0/db", "postgresql://u:hunter2@h/db?flavour=hunter2",
            "postgresql://u:hunt/er2@h/db", "postgresql://u:12/hunter2@h/db",
            "postgresql://u:hunter@2@h/db", "postgresql://u:hun%zzter2@h/db",
            "postgresql://u:hunter2@[::1/db",
            "postgresql://u:hunter2@h/db?connect_timeout=soon",
            "postgresql://u:hunter2@h/db?target_session_attrs=best",
            "postgresql://u:hunter2@h/db?sslrootcert=/nowhere/hunter2",
            "host=h1,h2 port=1,2,3 password=hunter2",
            "host=h password=hunter2 colour=red", "hunter2",
        ])
    func badDatabases(url: String) {
        let text = fault { () throws(SettingsError) in _ = try bidAPI(["--database-url", url]) }
        #expect(text?.hasPrefix("database-url:") == true, "\(text ?? "accepted")")
        for part in ["hunter", "ter2", "er2", "hun", "hunt", "colour", "flavour"] {
            #expect(text?.contains(part) != true, "\(text ?? "")")
        }
    }

    @Test(
        "database addresses as libpq takes them are accepted",
        arguments: [
            "postgresql://127.0.0.1:5432/gavelcast", "postgres://u:p%3Fss%2Fw%40rd@h/db?sslmode=verify-full",
            "postgresql://u@h1:5432,h2:5433/db?target_session_attrs=any",
            "host=/run/postgresql dbname=db user=u",
            "postgresql:///db?host=/run/postgresql", "postgresql://u:p?ss@h/db",
            "postgresql://u@[::1]:5432/db?connect_timeout=3",
        ])
    func goodDatabases(url: String) throws {
        #expect(try bidAPI(["--database-url", url]).databaseURL == url)
    }

    @Test(
        "other settings that would fail later or have no effect are refused at the start",
        arguments: [
            (["--tls-cert", "a.pem", "--tls-key", "b.pem"], "tls-cert"), (["--tls-key", "b.pem"], "tls-key"),
            (["--redis-url", "redis://:hunter2@h:99999"], "redis-url"),
            (["--redis-url", "mysql://hunter2"], "redis-url"),
            (["--redis-url", "redis://h/0?timeout=hunter2"], "redis-url"),
            (["--redis-url", "rediss://h?ca=/nowhere/at-all"], "No such file or directory"),
            (
                ["--tls-listen", "127.0.0.1:1", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"],
                "No such file"
            ),
            (["--listen", "127.0.0.1:99999"], "listen"),
            (["--admin-listen", "127.0.0.1:8080"], "admin-listen"),
            (["--bid-api-url", "127.0.0.1:8081"], "bid-api-url"),
            (["--bid-api-url", "http://h/"], "bid-api-url"), (["password=hunter2"], "quotes"),
            (["--bid-api-url", "http://u:hunter2@h"], "bid-api-url"),
            (["--origins", "https://u:hunter2@a.example"], "origins"),
            (["--redis-url", "redis://u:hunter2@h h"], "redis-url"),
            (["--trusted-proxies", "10.0.0.0/33"], "trusted-proxies"),
        ])
    func checks(arguments: [String], part: String) {
        do throws(SettingsError) {
            _ = try gateway(arguments)
            Issue.record("accepted \(arguments)")
        } catch {
            #expect(error.description.contains(part) && !error.description.contains("hunter2"), "\(error)")
        }
    }
}
