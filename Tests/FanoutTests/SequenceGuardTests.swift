import Fanout
import LiveProtocol
import TestSupport
import Testing

@Suite struct SequenceGuardTests {
    private func bid(_ sequence: UInt64, frame: [UInt8]) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, cursor: sequence, treatment: .conflatable, type: "BID_UPDATE", frame: frame,
            jsonStart: 0)
    }

    @Test("repeats, disorder and gaps come out once, in order, when the gap is filled")
    func guardOrders() {
        var generator = SeededGenerator.announced("sequence guard")
        for _ in 0..<2_000 {
            let start = UInt64.random(in: 0...50, using: &generator)
            let count = UInt64.random(in: 1...60, using: &generator)
            var arrivals = (start + 1...start + count).flatMap { sequence in
                [UInt64](repeating: sequence, count: Int.random(in: 1...3, using: &generator))
            }
            arrivals.shuffle(using: &generator)
            arrivals += [UInt64.random(in: 0...start, using: &generator)].filter { $0 > 0 }
            var order = SequenceGuard<UInt64>(limit: 1_000)
            var delivered: [UInt64] = []
            let establishedAt = Int.random(in: 0...arrivals.count, using: &generator)
            for (index, sequence) in arrivals.enumerated() {
                if index == establishedAt { order.establish(start) }
                while let held = order.takeNextHeld() { delivered.append(held) }
                if order.offer(sequence, sequence: sequence) == .deliver { delivered.append(sequence) }
                while let held = order.takeNextHeld() { delivered.append(held) }
            }
            if establishedAt == arrivals.count { order.establish(start) }
            while let held = order.takeNextHeld() { delivered.append(held) }
            #expect(delivered == Array(start + 1...start + count))
            #expect(order.heldCount == 0)
        }
    }

    @Test("a gap is seen, bounded, and left behind when it is given up")
    func guardGivesUp() {
        var order = SequenceGuard<Int>(limit: 2)
        order.establish(10)
        #expect(order.offer(0, sequence: 11) == .deliver)
        #expect(order.offer(0, sequence: 14) == .held && order.hasHole && order.firstHeld == 14)
        #expect(order.offer(0, sequence: 14) == .duplicate)
        #expect(order.offer(0, sequence: 15) == .held)
        #expect(order.offer(0, sequence: 17) == .overflow)
        order.establish(13)
        #expect(order.takeNextHeld() != nil && order.takeNextHeld() != nil && order.takeNextHeld() == nil)
        #expect(order.last == 15)
        order.establish(3)
        #expect(order.last == 15, "it never goes backwards")
    }

    @Test("a widened ring reaches further back until it is narrowed")
    func ringWidens() {
        func event(_ sequence: UInt64) -> EncodedEvent { bid(sequence, frame: [1]) }
        var ring = ReplayRing(capacity: 4)
        for sequence in UInt64(7)...10 { ring.append(event(sequence)) }
        ring.widen(with: (UInt64(1)...6).map(event))
        #expect(ring.events(after: 0)?.map(\.sequence) == Array(1...10) && ring.bytes == 10)
        ring.append(event(11))
        #expect(ring.first == 2 && ring.last == 11 && ring.count == 10)
        ring.narrow()
        #expect(ring.first == 8 && ring.count == 4 && ring.bytes == 4)
        ring.append(event(12))
        #expect(ring.first == 9)
    }

    @Test("the ring gives what follows a cursor, or says that it does not reach back")
    func ringReplays() {
        func event(_ sequence: UInt64) -> EncodedEvent { bid(sequence, frame: [1, 2, 3]) }
        var ring = ReplayRing(capacity: 4)
        #expect(ring.events(after: 0) == nil)
        for sequence in UInt64(1)...6 { ring.append(event(sequence)) }
        #expect(ring.first == 3 && ring.last == 6 && ring.bytes == 12)
        #expect(ring.events(after: 1) == nil)
        #expect(ring.events(after: 2)?.map(\.sequence) == [3, 4, 5, 6])
        #expect(ring.events(after: 5)?.map(\.sequence) == [6])
        #expect(ring.events(after: 6)?.isEmpty == true)
        ring.append(event(9))
        #expect(ring.first == 9 && ring.count == 1, "a jump empties it")
        ring.append(event(0))
        #expect(ring.count == 1, "what has no sequence number is not kept")
    }
}
