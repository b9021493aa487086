// Decides which auctions give up recent events when all replay rings together exceed their limit of bytes.
// The auction that has been idle longest gives first. An auction without an event for a minute gives up
// everything. A busier one keeps half of an even share. When every auction is down to that, the auction whose
// event has just arrived gives up its own oldest events. Its newest event always stays. If that is all it
// has, the longest idle auction gives up everything. Every operation takes amortised constant time. Pure: the
// owner of the rings carries the verdict out.

package struct HistoryBudget {
    /// What must be given up next.
    package enum Verdict: Equatable {
        /// This auction gives up all its events.
        case all(UInt32)
        /// This auction gives up its oldest events until its ring holds at most `bytes`.
        case excess(UInt32, bytes: Int)
        /// The auction whose event has just arrived gives up its oldest event.
        case own
    }

    /// An auction without an event for this long is idle.
    package static let idleMilliseconds: Int64 = 60_000
    private static let none = UInt32.max

    private enum Place {
        case nowhere
        /// May have more than its protected share.
        case ample
        /// Has no more than its protected share.
        case modest
    }

    private struct Entry {
        var bytes = 0
        var lastEventAt: Int64 = 0
        var place = Place.nowhere
        var previous = HistoryBudget.none
        var next = HistoryBudget.none
    }

    /// Auctions by the time of their last event, the longest idle first.
    private struct Line {
        var first = HistoryBudget.none
        var last = HistoryBudget.none
    }

    private var entries: [Entry] = []
    private var ample = Line()
    private var modest = Line()
    private var rings = 0
    private let limit: Int
    /// Bytes of all rings.
    package private(set) var total = 0

    /// - Parameter limit: bytes, for all rings together.
    package init(limit: Int) {
        self.limit = limit
    }

    package var isOverLimit: Bool { total > limit }

    /// Notes that an event of `auction` has arrived.
    /// - Parameters:
    ///   - auction: a small number that names it; numbers are used again.
    ///   - bytes: what its ring holds now.
    package mutating func noteEvent(_ auction: UInt32, bytes: Int, now: Int64) {
        set(auction, bytes: bytes)
        guard bytes > 0 else { return }
        unlink(auction)
        entries[Int(auction)].lastEventAt = now
        append(auction, to: .ample)
    }

    /// Notes that the ring of `auction` holds `bytes` now, for another reason than a new event.
    package mutating func set(_ auction: UInt32, bytes: Int) {
        if Int(auction) >= entries.count {
            entries.append(contentsOf: repeatElement(Entry(), count: Int(auction) + 1 - entries.count))
        }
        let before = entries[Int(auction)].bytes
        total += bytes - before
        rings += (bytes > 0 ? 1 : 0) - (before > 0 ? 1 : 0)
        entries[Int(auction)].bytes = bytes
        if bytes == 0 {
            unlink(auction)
            entries[Int(auction)].lastEventAt = 0
        } else if entries[Int(auction)].place == .nowhere {
            append(auction, to: .ample)
        }
    }

    /// What must be given up next; `nil` when the rings are within the limit. Call again after each step.
    /// - Parameters:
    ///   - auction: the auction whose event has just arrived.
    ///   - events: how many events its ring holds; the last of them stays.
    package mutating func verdict(after auction: UInt32, events: Int, now: Int64) -> Verdict? {
        guard total > limit else { return nil }
        let oldest = modest.first
        if oldest != Self.none, oldest != auction, isIdle(oldest, now) { return .all(oldest) }
        let share = limit / (2 * max(1, rings))
        while ample.first != Self.none, ample.first != auction {
            let candidate = ample.first
            if isIdle(candidate, now) { return .all(candidate) }
            unlink(candidate)
            append(candidate, to: .modest)
            if entries[Int(candidate)].bytes > share { return .excess(candidate, bytes: share) }
        }
        if events > 1 { return .own }
        return modest.first == Self.none || modest.first == auction ? nil : .all(modest.first)
    }

    private func isIdle(_ auction: UInt32, _ now: Int64) -> Bool {
        now - entries[Int(auction)].lastEventAt >= Self.idleMilliseconds
    }

    // MARK: Lines

    private mutating func append(_ auction: UInt32, to place: Place) {
        var line = place == .ample ? ample : modest
        entries[Int(auction)].place = place
        entries[Int(auction)].previous = line.last
        entries[Int(auction)].next = Self.none
        if line.last == Self.none { line.first = auction } else { entries[Int(line.last)].next = auction }
        line.last = auction
        if place == .ample { ample = line } else { modest = line }
    }

    private mutating func unlink(_ auction: UInt32) {
        let entry = entries[Int(auction)]
        guard entry.place != .nowhere else { return }
        var line = entry.place == .ample ? ample : modest
        if entry.previous == Self.none {
            line.first = entry.next
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next == Self.none {
            line.last = entry.previous
        } else {
            entries[Int(entry.next)].previous = entry.previous
        }
        if entry.place == .ample { ample = line } else { modest = line }
        entries[Int(auction)].place = .nowhere
    }
}
