// The gateway's executable: settings, logger, run.

import Foundation
import Gateway
import Logging
import Reactor
import Settings
import Telemetry

let openFileLimit = DescriptorLimit.raise()
let (configuration, logger) = ProgramEntry.configure(GatewaySettings.schema) { values throws(SettingsError) in
    (
        try GatewayConfiguration(
            values, openFileLimit: openFileLimit, cores: ProcessInfo.processInfo.activeProcessorCount),
        Logger.standardError(
            "gateway", format: LogFormat(rawValue: values.text("log-format")) ?? .json,
            level: Logger.Level(rawValue: values.text("log-level")) ?? .info)
    )
}

do throws(Errno) {
    try Gateway.run(configuration, logger: logger)
} catch {
    ProgramEntry.fail("gavelcast-gateway", "\(error); is another program using the address?", status: 71)
}
