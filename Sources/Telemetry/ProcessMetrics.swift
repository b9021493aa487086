// What Prometheus' own clients say of every process (`process_*`), and which build this is.

import CLinux
import Glibc

extension PrometheusText {
    /// - Parameter version: of the program.
    package mutating func addProcess(version: String) {
        metric(
            "gavelcast_build_info", .gauge, "The version; always 1.",
            [(labels: [("version", version)], value: 1)])
        metric(
            "process_resident_memory_bytes", .gauge, "Resident memory.", ProcessMemory.residentBytes())
        metric("process_open_fds", .gauge, "Open file descriptors.", ProcessDescriptors.open())
        metric(
            "process_max_fds", .gauge, "The limit on open file descriptors.", ProcessDescriptors.limit())
        metric(
            "process_cpu_seconds_total", .counter, "Processor time in user and system mode.",
            ProcessTimes.processorSeconds())
        metric(
            "process_start_time_seconds", .gauge, "When the process was started, in seconds since 1970.",
            ProcessTimes.start)
    }
}

package enum ProcessDescriptors {
    /// Open descriptors of this process; 0 when they cannot be counted. The one that counts them is left out.
    static func open() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(folder) }
        var count = -1
        while let entry = readdir(folder) {
            // `.` and `..`
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        return max(0, count)
    }

    static func limit() -> Int {
        var limit = rlimit()
        guard gavelcast_rlimit_descriptors(&limit) == 0 else { return 0 }
        return Int(clamping: limit.rlim_cur)
    }
}

package enum ProcessTimes {
    /// Processor time of all threads, also of those that have ended.
    static func processorSeconds() -> Double {
        var time = timespec()
        guard clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 else { return 0 }
        return seconds(time)
    }

    /// When the process was started, in seconds since 1970. Computed at the first use from how long the
    /// process has run.
    static let start: Double = {
        var (now, sinceBoot) = (timespec(), timespec())
        guard let text = ProcessMemory.firstBytes(of: "/proc/self/stat", atMost: 1_024),
            // The name of the program is in parentheses and may contain spaces.
            let fields = text.lastIndex(of: ")").map({ text[$0...].split(separator: " ") }),
            fields.count > 20, let ticks = Double(fields[20]),
            clock_gettime(CLOCK_REALTIME, &now) == 0, clock_gettime(CLOCK_BOOTTIME, &sinceBoot) == 0
        else { return 0 }
        let startedAfterBoot = ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
        return seconds(now) - seconds(sinceBoot) + startedAfterBoot
    }()

    private static func seconds(_ time: timespec) -> Double {
        Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
