// The two clocks a loop reads once a turn.

import CLinux

package enum Clock {
    /// Milliseconds that never go back; the zero is arbitrary.
    package static func monotonicMilliseconds() -> Int64 {
        read(CLOCK_MONOTONIC)
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

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
