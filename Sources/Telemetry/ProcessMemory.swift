// What the kernel says of this process.

import CLinux
import Glibc

package enum ProcessMemory {
    /// Resident memory in bytes (`/proc/self/statm`); 0 when it cannot be read.
    package static func residentBytes() -> Int {
        guard let text = firstBytes(of: "/proc/self/statm") else { return 0 }
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
    }

    /// The bytes of memory that this process may use: its control group's limit, or else the machine's
    /// memory.
    package static func available() -> Int {
        let pages = sysconf(Int32(_SC_PHYS_PAGES))
        let machine = pages * sysconf(Int32(_SC_PAGESIZE))
        // Version 2 of control groups; where there is no limit the file says "max".
        guard let text = firstBytes(of: "/sys/fs/cgroup/memory.max"),
            let limit = Int(text.prefix { $0 != "\n" })
        else { return machine }
        return min(machine, limit)
    }

    /// Returns the allocator's free memory to the system.
    package static func trim() {
        malloc_trim(0)
    }

    /// The beginning of a file; `nil` when it cannot be read or is empty.
    static func firstBytes(of path: String, atMost limit: Int = 128) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: limit)
        let count = read(descriptor, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }
}
