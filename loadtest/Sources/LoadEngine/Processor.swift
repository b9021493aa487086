// What a thread asks of the kernel for itself: a processor, a rest, a table of open files, its use of time.

import CLinux
import Glibc

package enum Processor {
    /// Keeps the calling thread, and those it starts, on one processor.
    package static func pin(to core: Int) {
        let result = gavelcast_pin_to_core(Int32(core))
        precondition(result == 0, "no processor \(core)")
    }

    package static func pause(microseconds: Int) {
        var time = timespec(tv_sec: microseconds / 1_000_000, tv_nsec: microseconds % 1_000_000 * 1_000)
        nanosleep(&time, nil)
    }

    /// Gives the calling thread a table of open files of its own, without those of the process but the first
    /// three. The limit on open files counts a table.
    static func takeOwnDescriptors() {
        let result = gavelcast_own_descriptors()
        precondition(result == 0, "unshare of descriptors: errno \(gavelcast_errno())")
    }

    /// Processor time of the calling thread.
    package static func threadNanoseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
