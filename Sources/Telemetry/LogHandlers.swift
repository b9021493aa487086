// Logs: one JSON object per line, or text for a person at a terminal, on standard error. One write a line, so
// that lines of several threads do not mix.

import CLinux
import Glibc
package import Logging

package enum LogFormat: String, Sendable {
    case json, text
}

package struct StandardErrorLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel: Logger.Level
    private let format: LogFormat
    private let label: String

    package init(label: String, format: LogFormat, level: Logger.Level) {
        self.label = label
        self.format = format
        logLevel = level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        var line: String
        switch format {
        case .json:
            line = #"{"time":"\#(Self.now())","level":"\#(event.level)","logger":\#(JSONText.quoted(label)),"#
            line += #""message":\#(JSONText.quoted("\(event.message)"))"#
            for (key, value) in all { line += ",\(JSONText.quoted(key)):\(JSONText.quoted("\(value)"))" }
            line += "}\n"
        case .text:
            line = "\(Self.now()) \(event.level) \(event.message)"
            for (key, value) in all { line += " \(key)=\(value)" }
            line = line.replacing("\n", with: " ") + "\n"
        }
        let bytes = Array(line.utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }

    private static func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        var parts = tm()
        gmtime_r(&time.tv_sec, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        let count = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%S", &parts)
        let milliseconds = "\(1_000 + time.tv_nsec / 1_000_000)".dropFirst()
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            + ".\(milliseconds)Z"
    }
}

extension Logger {
    /// A logger to standard error.
    package static func standardError(_ label: String, format: LogFormat, level: Logger.Level) -> Logger {
        Logger(label: label) { StandardErrorLogHandler(label: $0, format: format, level: level) }
    }
}
