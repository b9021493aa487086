// The gateway's executable: settings, logger, run.

import Foundation
import Gateway
import Logging
import Reactor
import Settings
import Telemetry

let openFileLimit = DescriptorLimit.raise()
let cores = ProcessInfo.processInfo.activeProcessorCount
let (configuration, logger) = ProgramEntry.configure(GatewaySettings.schema) { values throws(SettingsError) in
    (
        try GatewayConfiguration(values, openFileLimit: openFileLimit, cores: cores),
        Logger.standardError(
            "gateway", format: LogFormat(rawValue: values.text("log-format")) ?? .json,
            level: Logger.Level(rawValue: values.text("log-level")) ?? .info)
    )
}

do throws(GatewayFailure) {
    try Gateway.run(configuration, logger: logger) {
        Result { () throws(SettingsError) in
            try GatewayConfiguration(
                try ProgramEntry.reread(GatewaySettings.schema), openFileLimit: openFileLimit, cores: cores)
        }
    }
} catch {
    ProgramEntry.fail("gavelcast-gateway", error.explanation, status: 71)
}
