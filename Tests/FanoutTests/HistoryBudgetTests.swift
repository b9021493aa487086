import Fanout
import TestSupport
import Testing

@Suite struct HistoryBudgetTests {
    /// Rings that do what the budget says; each event has a size.
    private struct Rings {
        var budget: HistoryBudget
        var sizes: [UInt32: [Int]] = [:]
        let limit: Int

        init(limit: Int) {
            self.limit = limit
            budget = HistoryBudget(limit: limit)
        }

        func bytes(_ ring: UInt32) -> Int { sizes[ring, default: []].reduce(0, +) }
        var total: Int { sizes.keys.reduce(0) { $0 + bytes($1) } }

        mutating func append(_ size: Int, to ring: UInt32, now: Int64) {
            sizes[ring, default: []].append(size)
            budget.noteEvent(ring, bytes: bytes(ring), now: now)
            while let verdict = budget.verdict(
                after: ring, events: sizes[ring, default: []].count, now: now)
            {
                switch verdict {
                case .all(let other):
                    #expect(other != ring && bytes(other) > 0)
                    sizes[other] = []
                    budget.set(other, bytes: 0)
                case .excess(let other, let most):
                    #expect(other != ring && bytes(other) > most, "something must be given up")
                    while bytes(other) > most { sizes[other, default: []].removeFirst() }
                    budget.set(other, bytes: bytes(other))
                case .own:
                    sizes[ring, default: []].removeFirst()
                    budget.set(ring, bytes: bytes(ring))
                }
            }
        }
    }

    @Test("a busy auction keeps its history where idle ones have filled the budget")
    func busyAmongIdle() {
        var rings = Rings(limit: 100_000)
        for ring in 1...100 { for _ in 0..<10 { rings.append(100, to: UInt32(ring), now: 0) } }
        #expect(rings.total == 100_000)
        for number in 1...200 { rings.append(100, to: 0, now: Int64(number)) }
        #expect(rings.bytes(0) == 20_000, "none of its own was given up")
        #expect(rings.total <= 100_000)
    }

    @Test("the longest idle give first: everything after a minute, down to half an even share before")
    func order() {
        var rings = Rings(limit: 10_000)
        for ring in [1, 2, 3] as [UInt32] {
            for _ in 0..<30 { rings.append(100, to: ring, now: Int64(ring) * 1_000) }
        }
        for _ in 0..<12 { rings.append(100, to: 4, now: 4_000) }
        #expect(rings.bytes(1) < 3_000 && rings.bytes(2) == 3_000 && rings.bytes(3) == 3_000)
        #expect(rings.bytes(1) >= 10_000 / 8 - 100, "an auction that was busy keeps its share")
        let late = HistoryBudget.idleMilliseconds + 2_500
        for _ in 0..<20 { rings.append(100, to: 4, now: late) }
        #expect(rings.bytes(1) == 0 && rings.bytes(3) == 3_000, "idle for a minute")
    }

    @Test("random events: the limit holds, a ring that has had an event just now has at least that one")
    func random() {
        var generator = SeededGenerator.announced("history budget")
        for _ in 0..<50 {
            let limit = Int.random(in: 1_000...20_000, using: &generator)
            var rings = Rings(limit: limit)
            var now: Int64 = 0
            for _ in 0..<2_000 {
                now += Int64.random(in: 0...2_000, using: &generator)
                let ring = UInt32.random(in: 0..<30, using: &generator)
                if Int.random(in: 0..<40, using: &generator) == 0 {
                    rings.sizes[ring] = []
                    rings.budget.set(ring, bytes: 0)
                    continue
                }
                rings.append(Int.random(in: 1...900, using: &generator), to: ring, now: now)
                #expect(rings.budget.total == rings.total && rings.total <= limit)
                #expect(rings.bytes(ring) > 0)
            }
        }
    }
}
