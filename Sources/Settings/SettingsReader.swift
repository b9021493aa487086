// Reads a program's settings from flags, environment variables and a YAML file, the strongest first. Checks
// each one against the table. Every refusal is one line that names the key and the reason.

import Yams

/// Why settings are refused.
package struct SettingsError: Error, Equatable, CustomStringConvertible {
    /// The exit status: 64 for a wrong command line, 78 for a wrong configuration (sysexits.h).
    package let exitStatus: Int32
    package let description: String

    package static func usage(_ text: String) -> SettingsError {
        SettingsError(exitStatus: 64, description: text)
    }
    package static func configuration(_ text: String) -> SettingsError {
        SettingsError(exitStatus: 78, description: text)
    }
}

/// What the command line asks for.
package enum Invocation: Sendable {
    case run(SettingsValues)
    case checkConfiguration(SettingsValues)
    case printConfiguration(SettingsValues)
    case showHelp
    case showVersion
}

/// Where a setting's value came from.
package enum SettingsSource: Sendable, Equatable, CustomStringConvertible {
    case defaults
    case file(String)
    case variable(String)
    case flag

    package var description: String {
        switch self {
        case .defaults: "default"
        case .file(let path): "file \(path)"
        case .variable(let name): "variable \(name)"
        case .flag: "flag"
        }
    }
}

/// Checked values by setting name. Asking for a name that is not in the table, or as another kind, traps.
package struct SettingsValues: Sendable {
    private var texts: [String: [String]]
    private var sources: [String: SettingsSource] = [:]

    fileprivate init(_ defaults: [String: [String]]) {
        texts = defaults
    }

    fileprivate mutating func set(_ name: String, _ values: [String], from source: SettingsSource) {
        texts[name] = values
        sources[name] = source
    }

    /// Where the value came from.
    package func source(of name: String) -> SettingsSource { sources[name] ?? .defaults }

    /// The value; the empty string when there is none.
    package func text(_ name: String) -> String { list(name).first ?? "" }
    package func list(_ name: String) -> [String] {
        guard let values = texts[name] else { preconditionFailure("no setting '\(name)'") }
        return values
    }
    package func number(_ name: String) -> Int {
        guard let number = Int(text(name)) else { preconditionFailure("setting '\(name)' is no number") }
        return number
    }
    package func flag(_ name: String) -> Bool { text(name) == "true" }

    /// The names of the settings that are not as in `earlier`, sorted.
    package func changed(since earlier: SettingsValues) -> [String] {
        texts.keys.filter { texts[$0] != earlier.texts[$0] }.sorted()
    }
}

package struct SettingsReader {
    private let schema: SettingsSchema
    private let readFile: (String) throws -> String

    /// - Parameter readFile: returns a file's text; throws when it cannot be read.
    package init(schema: SettingsSchema, readFile: @escaping (String) throws -> String) {
        self.schema = schema
        self.readFile = readFile
    }

    /// - Parameters:
    ///   - arguments: the command line without the program's name.
    ///   - environment: the process's variables.
    package func read(
        arguments: [String], environment: [String: String]
    ) throws(SettingsError) -> Invocation {
        var flags: [String: [String]] = [:]
        var configurationPath: String?
        var purpose = Invocation.run
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "--help", "-h": return .showHelp
            case "--version": return .showVersion
            case "--check-config": purpose = Invocation.checkConfiguration
            case "--print-config": purpose = Invocation.printConfiguration
            default:
                let (name, value) = try flag(argument, &rest)
                if name == "config" {
                    configurationPath = value
                } else {
                    flags[name, default: []].append(value)
                }
            }
        }
        for (name, values) in flags { try check(name, values, "--\(name)", SettingsError.usage) }
        var defaults: [String: [String]] = [:]
        for setting in schema.settings {
            defaults[setting.name] = setting.defaultText.isEmpty ? [] : split(setting, setting.defaultText)
        }
        var values = SettingsValues(defaults)
        if let configurationPath {
            for (name, texts) in try file(configurationPath) {
                values.set(name, texts, from: .file(configurationPath))
            }
        }
        for setting in schema.settings {
            guard let text = environment[setting.variable], !text.isEmpty else { continue }
            let texts = split(setting, text)
            try check(setting.name, texts, setting.variable, SettingsError.configuration)
            values.set(setting.name, texts, from: .variable(setting.variable))
        }
        for (name, texts) in flags { values.set(name, texts, from: .flag) }
        return purpose(values)
    }

    private func flag(
        _ argument: String, _ rest: inout ArraySlice<String>
    ) throws(SettingsError) -> (String, String) {
        // Do not repeat the argument: it may be part of an unquoted value, and that value may be a secret.
        guard argument.hasPrefix("--") else {
            throw .usage(
                "an argument does not begin with '--'; put quotes around values with spaces, or see --help")
        }
        let parts = argument.dropFirst(2).split(
            separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        guard name == "config" || schema.setting(named: name) != nil else {
            throw .usage("unknown flag '--\(name)'; see --help")
        }
        if parts.count == 2 { return (name, String(parts[1])) }
        if case .flag? = schema.setting(named: name)?.kind {
            // `--flag` alone means true; `--flag false` is accepted as well.
            if let next = rest.first, next == "true" || next == "false" { return (name, rest.removeFirst()) }
            return (name, "true")
        }
        guard let value = rest.popFirst() else { throw .usage("--\(name): a value is missing") }
        return (name, value)
    }

    private func file(_ path: String) throws(SettingsError) -> [String: [String]] {
        let text: String
        let root: Yams.Node?
        do {
            text = try readFile(path)
        } catch {
            throw .configuration("config: cannot read '\(path)'")
        }
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            let reason = "\(error)".split(separator: "\n").first ?? "syntax error"
            throw .configuration("config: '\(path)' is not valid YAML: \(reason)")
        }
        guard let root else { return [:] }
        guard let mapping = root.mapping else {
            throw .configuration("config: '\(path)' must be a mapping of settings to values")
        }
        var texts: [String: [String]] = [:]
        for (keyNode, valueNode) in mapping {
            let key = keyNode.string ?? "?"
            guard let setting = schema.setting(named: key) else {
                // A value in the place of a key may be a secret.
                let isName = key.utf8.allSatisfy { $0 == UInt8(ascii: "-") || (0x61...0x7A).contains($0) }
                let name = isName ? "the unknown key '\(key)'" : "a key that is not a setting"
                throw .configuration("config: '\(path)' has \(name) on line \(keyNode.mark?.line ?? 0)")
            }
            let values: [String]
            if let sequence = valueNode.sequence {
                guard case .list = setting.kind else {
                    throw .configuration("\(key): takes one value, not a list")
                }
                values = sequence.compactMap(\.scalar?.string)
                guard values.count == sequence.count else {
                    throw .configuration("\(key): every element must be a plain value")
                }
            } else if let scalar = valueNode.scalar {
                values = [scalar.string]
            } else {
                throw .configuration("\(key): must be a plain value")
            }
            try check(key, values, key, SettingsError.configuration)
            texts[key] = values
        }
        return texts
    }

    private func split(_ setting: Setting, _ text: String) -> [String] {
        guard case .list = setting.kind else { return [text] }
        return text.split(separator: ",").map { String($0.trimmingPrefix(" ")) }
    }

    private func check(
        _ name: String, _ values: [String], _ shownName: String, _ error: (String) -> SettingsError
    ) throws(SettingsError) {
        guard let setting = schema.setting(named: name) else { return }
        if case .list = setting.kind { return }
        guard values.count == 1, let value = values.first else {
            throw error("\(shownName): is set \(values.count) times but takes one value")
        }
        switch setting.kind {
        case .text, .list: break
        case .flag:
            guard value == "true" || value == "false" else {
                throw error("\(shownName): '\(value)' is not true or false")
            }
        case .number(let range):
            guard let number = Int(value) else { throw error("\(shownName): '\(value)' is not an integer") }
            guard range.contains(number) else {
                throw error("\(shownName): \(number) is not within \(range.lowerBound)…\(range.upperBound)")
            }
        case .choice(let choices):
            guard choices.contains(value) else {
                throw error("\(shownName): '\(value)' is not one of \(choices.joined(separator: ", "))")
            }
        case .address:
            guard Self.isAddress(value) else {
                throw error(
                    "\(shownName): '\(value)' is neither HOST:PORT nor unix:/PATH of at most 107 bytes")
            }
        case .file:
            do { _ = try readFile(value) } catch { throw self.unreadable(shownName, value, error) }
        }
    }

    private func unreadable(_ name: String, _ path: String, _ reason: any Error) -> SettingsError {
        .configuration("\(name): cannot read '\(path)'")
    }

    private static func isAddress(_ text: String) -> Bool {
        if text.hasPrefix("unix:/") { return true }
        guard let colon = text.lastIndex(of: ":"), UInt16(text[text.index(after: colon)...]) != nil else {
            return false
        }
        let host = text[..<colon]
        return !host.contains(":") || (host.hasPrefix("[") && host.hasSuffix("]"))
    }
}
