// The load generator's executable: settings, then the scenario.

import Settings

let options = ProgramEntry.configure(LoadTestSettings.schema) { values throws(SettingsError) in
    try LoadTestSettings(values)
}

do {
    try Demo(options).run()
} catch {
    ProgramEntry.fail("gavelcast-loadtest", "\(error)", status: 69)
}
