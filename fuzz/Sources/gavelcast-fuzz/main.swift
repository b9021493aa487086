// Runs one fuzz target under libFuzzer: gavelcast-fuzz TARGET [libFuzzer's arguments].

import CLibFuzzer
import Foundation

let name = CommandLine.arguments.dropFirst().first ?? ""
guard FuzzTargets.choose(name) else {
    FileHandle.standardError.write(
        Data("gavelcast-fuzz: the target is one of \(FuzzTargets.names.joined(separator: ", "))\n".utf8))
    exit(64)
}
// SAFETY: the strings live as long as the program, as arguments do.
var arguments: [UnsafeMutablePointer<CChar>?] =
    ([CommandLine.arguments[0]] + CommandLine.arguments.dropFirst(2)).map { strdup($0) }
var count = Int32(arguments.count)
arguments.append(nil)
let status = arguments.withUnsafeMutableBufferPointer { buffer in
    var pointer = buffer.baseAddress
    return LLVMFuzzerRunDriver(&count, &pointer) { bytes, count in
        FuzzTargets.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }
}
exit(status)
