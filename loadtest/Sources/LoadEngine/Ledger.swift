// What one shard has seen of the events themselves, whoever of its watchers saw them first: their content,
// how many applied each, and when the last one did.

package struct Arrival: Codable, Sendable {
    package var hash: UInt64 = 0
    /// When it was due to be published, and when the last watcher had it, in microseconds of the wall clock.
    package var dueMicroseconds: Int64 = 0
    package var lastMicroseconds: Int64 = 0
    package var applied: UInt32 = 0
}

package struct Ledger: Codable, Sendable {
    /// Events of one auction that are kept; beyond, a run is too long to be audited.
    static let maximumEvents = 1 << 22

    /// By auction, then by sequence number less one.
    package private(set) var arrivals: [[Arrival]]

    init(auctions: Int) {
        arrivals = Array(repeating: [], count: auctions)
    }

    /// Notes that a watcher applied an event; false when its content is not what others received under that
    /// number.
    mutating func note(_ message: borrowing ScannedMessage, auction: Int, now: Int64) -> Bool {
        let index = Int(clamping: message.sequence) - 1
        guard index >= 0, index < Self.maximumEvents else { return false }
        if index >= arrivals[auction].count {
            arrivals[auction].append(
                contentsOf: repeatElement(Arrival(), count: index + 1 - arrivals[auction].count))
        }
        if arrivals[auction][index].hash == 0 {
            arrivals[auction][index].hash = message.hash
            arrivals[auction][index].dueMicroseconds = message.dueMicroseconds
        }
        arrivals[auction][index].applied += 1
        arrivals[auction][index].lastMicroseconds = now
        return arrivals[auction][index].hash == message.hash
    }

    /// Adds what another shard saw.
    package mutating func merge(_ other: Ledger) {
        for auction in arrivals.indices {
            let missing = other.arrivals[auction].count - arrivals[auction].count
            if missing > 0 {
                arrivals[auction].append(contentsOf: repeatElement(Arrival(), count: missing))
            }
            for (index, theirs) in other.arrivals[auction].enumerated() where theirs.hash != 0 {
                var mine = arrivals[auction][index]
                if mine.hash == 0 {
                    mine.hash = theirs.hash
                    mine.dueMicroseconds = theirs.dueMicroseconds
                }
                mine.applied += theirs.applied
                mine.lastMicroseconds = max(mine.lastMicroseconds, theirs.lastMicroseconds)
                arrivals[auction][index] = mine
            }
        }
    }
}
