// The bid API's executable: a command, or settings, logger, run.

import BidAPI
import Logging
import Reactor
import Settings
import Telemetry

let words = Array(CommandLine.arguments.dropFirst())
if let word = words.first, let command = BidAPICommand(rawValue: word) {
    command.run(Array(words.dropFirst()))
}

let (configuration, logger) = ProgramEntry.configure(BidAPISettings.schema) { values throws(SettingsError) in
    (
        try BidAPIConfiguration(values),
        Logger.standardError(
            "bidapi", format: LogFormat(rawValue: values.text("log-format")) ?? .json,
            level: Logger.Level(rawValue: values.text("log-level")) ?? .info)
    )
}

do {
    try await BidAPIService.run(configuration, logger: logger)
} catch let error as UnusableDatabase {
    ProgramEntry.fail("gavelcast-bidapi", "\(error)", status: 78)
} catch let error as Errno {
    ProgramEntry.fail("gavelcast-bidapi", error.listeningFailure, status: 71)
} catch {
    ProgramEntry.fail("gavelcast-bidapi", "\(error)", status: 71)
}
