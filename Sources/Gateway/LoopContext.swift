// What every room of an event loop shares: the settings, the counters and the time, which is read once a
// turn. Each loop has one context, and only the loop's thread touches it. The event loop moves the clock and
// takes a reload. The rooms only read.

import AuctionEvents
import Logging
import Reactor
import Wire

final class LoopContext {
    let shared: Shared
    let handle: LoopHandle
    let logger: Logger
    let counters: LoopCounters
    /// Replaced by a reload.
    private(set) var configuration: GatewayConfiguration

    /// Monotonic time, read once a turn.
    private(set) var nowMilliseconds: Int64
    private let clock: () -> Int64
    /// When the drain began; `nil` while the gateway serves.
    private(set) var drainStartedAt: Int64?
    var generator = SystemRandomNumberGenerator()

    private var dateText = ""
    /// The second that ``dateText`` was made for.
    private var dateSeconds: Int64 = -1

    /// - Parameter clock: monotonic milliseconds.
    init(
        shared: Shared, handle: LoopHandle, logger: Logger,
        clock: @escaping () -> Int64
    ) {
        self.clock = clock
        nowMilliseconds = clock()
        self.shared = shared
        self.handle = handle
        self.logger = logger
        counters = handle.counters
        configuration = shared.configuration
    }

    // MARK: Changes, made by the event loop

    func readClock() {
        nowMilliseconds = clock()
    }

    func reload(_ new: GatewayConfiguration) {
        configuration = new
    }

    func beginDraining() {
        drainStartedAt = nowMilliseconds
    }

    // MARK: Time

    var isDraining: Bool { drainStartedAt != nil }

    /// The present time in ticks of the timer wheels.
    var nowTick: UInt32 { UInt32(truncatingIfNeeded: nowMilliseconds / Limits.tickMilliseconds) }

    func tick(afterSeconds seconds: Int) -> UInt32 {
        nowTick &+ UInt32(Int64(seconds) * 1_000 / Limits.tickMilliseconds)
    }

    func serverTime() -> Timestamp {
        Timestamp(milliseconds: Clock.wallMilliseconds())
    }

    /// The present time as HTTP responses carry it, made once a second.
    func httpDate() -> String {
        let seconds = Clock.wallMilliseconds() / 1_000
        if seconds != dateSeconds {
            dateSeconds = seconds
            dateText = HTTPDate.text(seconds: seconds)
        }
        return dateText
    }

    // MARK: Spreading

    /// How long a client that is sent away waits before it comes back: a random part of the drain's length.
    func retryMilliseconds() -> Int {
        let spread = max(1, configuration.drainSeconds) * 1_000
        return Int.random(in: 100...max(101, spread), using: &generator)
    }

    /// How long a client waits before it comes back when it can be served at once, here or by another
    /// gateway.
    func promptRetryMilliseconds() -> Int {
        Int.random(in: Limits.promptReturnMilliseconds, using: &generator)
    }
}
