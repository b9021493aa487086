// What the kernel says of a process: processor time to the nanosecond, and memory that is its own.

import Foundation

package struct ProcessMeter: Sendable {
    package struct Reading: Sendable {
        /// Of all threads, those that ended excepted.
        package var cpuNanoseconds: Int64 = 0
        /// How much of it was in user space, from 0 to 1; counted in the kernel's ticks.
        package var userTicks = 0
        package var systemTicks = 0
        /// Resident memory that no file backs.
        package var anonymousBytes = 0
        /// Resident memory, what is shared divided among its sharers.
        package var residentBytes = 0

        package init() {}

        package static func + (left: Reading, right: Reading) -> Reading {
            var sum = left
            sum.cpuNanoseconds += right.cpuNanoseconds
            sum.userTicks += right.userTicks
            sum.systemTicks += right.systemTicks
            sum.anonymousBytes += right.anonymousBytes
            sum.residentBytes += right.residentBytes
            return sum
        }
    }

    private let pid: Int32

    package init(pid: Int32) {
        self.pid = pid
    }

    package func read() -> Reading {
        var reading = Reading()
        let base = "/proc/\(pid)"
        for task in (try? FileManager.default.contentsOfDirectory(atPath: "\(base)/task")) ?? [] {
            reading.cpuNanoseconds +=
                Self.text("\(base)/task/\(task)/schedstat").split(separator: " ").first.flatMap { Int64($0) }
                ?? 0
        }
        // Behind the name in parentheses: state is the 3rd field, utime the 14th, stime the 15th (proc(5)).
        let fields = Self.text("\(base)/stat").split(separator: ")").last?.split(separator: " ") ?? []
        if fields.count > 12 {
            reading.userTicks = Int(fields[11]) ?? 0
            reading.systemTicks = Int(fields[12]) ?? 0
        }
        for line in Self.text("\(base)/status").split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count > 1, let kilobytes = Int(words[1]) else { continue }
            if words[0] == "RssAnon:" { reading.anonymousBytes = kilobytes << 10 }
            if words[0] == "VmRSS:" { reading.residentBytes = kilobytes << 10 }
        }
        return reading
    }

    private static func text(_ path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }
}

/// The machine's memory.
package enum MachineMemory {
    /// What could be used without swapping (`MemAvailable`), in bytes; this counts the kernel's socket memory
    /// too.
    package static func availableBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }
}
