// The load tester's executable: which command, its settings, and off it goes.

import CLinux
import Foundation
import LoadEngine
import Settings

let program = "gavelcast-loadtest"
// A pipe that closes is the end of the run's output, not of the run.
signal(SIGPIPE, SIG_IGN)
// Progress is to be seen as it is printed, also through a pipe.
gavelcast_print_by_line()

var words = CommandLine.arguments.dropFirst()
switch words.first {
case nil, "--help", "-h":
    print(Command.overview)
    exit(words.isEmpty ? 64 : 0)
case "--version":
    print("\(program) \(ProgramEntry.version)")
    exit(0)
default: break
}
let word = words.removeFirst()
guard let command = Command(rawValue: word) else {
    ProgramEntry.fail(program, "unknown command '\(word)'; see --help", status: 64)
}
var scenario: String?
if command == .run, let first = words.first, !first.hasPrefix("--") { scenario = words.removeFirst() }
let values = ProgramEntry.configure(command.schema, arguments: Array(words)) {
    (values) throws(SettingsError) in
    try Tasks.check(command, values, scenario: scenario)
    return values
}
do {
    try Tasks.perform(command, values, scenario: scenario)
} catch {
    ProgramEntry.fail(program, "\(error)", status: 69)
}
