// What every program does before its own work: read the settings, answer --help and the like, or say in one
// line what is wrong and exit.

import Foundation

package enum ProgramEntry {
    /// The version of all three programs.
    package static let version = "0.1.0"

    /// Reads the settings of the running process. Returns only when the program is to run; otherwise it
    /// prints and exits.
    /// - Parameters:
    ///   - arguments: the command line without the program's name (and the command, where it has one).
    ///   - check: turns the values into the program's configuration; throws what is wrong beyond the table.
    package static func configure<Configuration>(
        _ schema: SettingsSchema, arguments: [String] = Array(CommandLine.arguments.dropFirst()),
        _ check: (SettingsValues) throws(SettingsError) -> Configuration
    ) -> Configuration {
        do throws(SettingsError) {
            switch try read(schema, arguments) {
            case .run(let values): return try check(values)
            case .checkConfiguration(let values):
                _ = try check(values)
                print("\(schema.program): the configuration is valid")
            case .printConfiguration(let values):
                // An address that is not valid may have its password in any place.
                _ = try check(values)
                print(values.listing(schema), terminator: "")
            case .showHelp: print(schema.help)
            case .showVersion: print("\(schema.program) \(version)")
            }
            exit(0)
        } catch {
            fail(schema.program, error.description, status: error.exitStatus)
        }
    }

    /// Reads the settings of the running process again.
    /// - Throws: what is wrong with them.
    package static func reread(_ schema: SettingsSchema) throws(SettingsError) -> SettingsValues {
        switch try read(schema, Array(CommandLine.arguments.dropFirst())) {
        case .run(let values), .checkConfiguration(let values), .printConfiguration(let values): return values
        case .showHelp, .showVersion: preconditionFailure("the program was not started with these settings")
        }
    }

    private static func read(
        _ schema: SettingsSchema, _ arguments: [String]
    ) throws(SettingsError) -> Invocation {
        let reader = SettingsReader(schema: schema) {
            String(decoding: try Data(contentsOf: URL(fileURLWithPath: $0)), as: UTF8.self)
        }
        return try reader.read(arguments: arguments, environment: ProcessInfo.processInfo.environment)
    }

    /// Prints one line on standard error and exits.
    package static func fail(_ program: String, _ text: String, status: Int32) -> Never {
        FileHandle.standardError.write(Data("\(program): \(text)\n".utf8))
        exit(status)
    }
}
