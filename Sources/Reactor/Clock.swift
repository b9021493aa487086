// The two clocks a loop reads once a turn, and a pause for threads that are no loop.

import CLinux
import Glibc

package enum Clock {
    /// Milliseconds that never go back; the zero is arbitrary.
    package static func monotonicMilliseconds() -> Int64 {
        read(CLOCK_MONOTONIC)
    }

    /// Microseconds that never go back; the zero is the same as for ``monotonicMilliseconds()``.
    package static func monotonicMicroseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    package static func wallMilliseconds() -> Int64 {
        read(CLOCK_REALTIME)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    package static func wallMicroseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
    }

    /// Suspends the calling thread. Not on a loop's thread.
    package static func pause(milliseconds: Int64) {
        usleep(useconds_t(milliseconds * 1_000))
    }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
