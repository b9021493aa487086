// One table per program names every setting once; the flag, the variable, the YAML key and the help text all
// come from it. swift-configuration reads these sources too, but cannot tell which keys it does not know, and
// the contract wants an unknown key refused.

/// The kind of value a setting takes, and its check.
package enum SettingKind: Sendable {
    case text
    case list
    case flag
    /// A whole number within a range.
    case number(ClosedRange<Int>)
    case choice([String])
    /// `host:port`.
    case address
    /// A path to a file that must exist.
    case file
}

package struct Setting: Sendable {
    package let name: String
    package let kind: SettingKind
    /// As a user would write it; empty for "none".
    package let defaultText: String
    package let help: String
    /// True for an address that may hold a password.
    package let mayHoldPassword: Bool

    package init(
        _ name: String, _ kind: SettingKind, default defaultText: String = "", mayHoldPassword: Bool = false,
        _ help: String
    ) {
        self.name = name
        self.kind = kind
        self.defaultText = defaultText
        self.mayHoldPassword = mayHoldPassword
        self.help = help
    }

    /// `redis-url` → `REDIS_URL`.
    package var variable: String { name.uppercased().replacing("-", with: "_") }
}

package struct SettingsSchema: Sendable {
    package let program: String
    package let summary: String
    package let settings: [Setting]

    package init(program: String, summary: String, settings: [Setting]) {
        self.program = program
        self.summary = summary
        self.settings = settings
    }

    package func setting(named name: String) -> Setting? {
        settings.first { $0.name == name }
    }

    /// The text of `--help`.
    package var help: String {
        var text = """
            \(summary)

            USAGE: \(program) [--config FILE] [--NAME VALUE ...]

            Give a setting as a flag, an environment variable or a YAML key. A flag wins over a variable, a variable over
            the file. Lists: repeat the flag, put commas in the variable, write a YAML list.

            SETTINGS:

            """
        for setting in settings {
            let value =
                switch setting.kind {
                case .flag: ""
                case .number: " N"
                case .choice(let choices): " " + choices.joined(separator: "|")
                case .address: " HOST:PORT|unix:/PATH"
                case .file: " FILE"
                case .text: " TEXT"
                case .list: " TEXT ..."
                }
            let fallback = setting.defaultText.isEmpty ? "" : " (default: \(setting.defaultText))"
            text +=
                "  --\(setting.name)\(value)\n      \(setting.help)\(fallback); variable \(setting.variable)\n"
        }
        return text + """

              --config FILE    read settings from a YAML file
              --check-config   check the settings and exit
              --print-config   check the settings, print each with its source and without passwords, and exit
              --version        print the version and exit
              --help           print this text and exit

            EXIT STATUS: 0 after a drain, 64 for a wrong flag, 78 for a wrong setting, 71 when a port cannot be opened.
            """
    }
}
