// What `--print-config` prints: every setting as a line of YAML, with a comment that names its source.
// Settings without a value are comments. The output can be used as a configuration file, except for
// passwords, which are masked.

extension SettingsValues {
    /// One line for each setting of the table. The values must be valid.
    package func listing(_ schema: SettingsSchema) -> String {
        let lines = schema.settings.map { setting in
            let values = list(setting.name).map { setting.mayHoldPassword ? Self.masked($0) : $0 }
            guard !values.isEmpty else { return (line: "# \(setting.name):", source: "not set") }
            let text: String =
                switch setting.kind {
                case .list: "[" + values.map(Self.quoted).joined(separator: ", ") + "]"
                case .number, .flag: values.first ?? ""
                default: Self.quoted(values.first ?? "")
                }
            return (line: "\(setting.name): \(text)", source: source(of: setting.name).description)
        }
        let width = min(60, lines.map(\.line.count).max() ?? 0)
        return lines.map { line, source in
            line + String(repeating: " ", count: max(1, width + 2 - line.count)) + "# \(source)\n"
        }.joined()
    }

    private static func quoted(_ text: String) -> String {
        "'" + text.replacing("'", with: "''") + "'"
    }

    /// An address without its passwords: that of the user, those of parameters, and that of libpq's form with
    /// keywords.
    static func masked(_ address: String) -> String {
        address
            .replacing(/^([a-z+]+:\/\/[^:@\/?]*):[^@\/?]*@/) { "\($0.1):***@" }
            .replacing(/((?:^|[?&\s_])(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^&\s]*)/) { "\($0.1)***" }
    }
}
