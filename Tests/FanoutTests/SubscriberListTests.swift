import Fanout
import TestSupport
import Testing

@Suite struct SubscriberListTests {
    /// A list with positions kept as a loop keeps them.
    private struct Model {
        var list = SubscriberList()
        var positions: [UInt32: UInt32] = [:]

        mutating func add(_ slot: UInt32) {
            positions[slot] = list.append(slot)
        }

        mutating func remove(_ slot: UInt32) {
            guard let position = positions.removeValue(forKey: slot) else { return }
            if let moved = list.remove(at: position) { positions[moved] = position }
        }
    }

    @Test("a walk that yields reaches each watcher that stays exactly once, whoever comes and goes")
    func walksReachEveryone() {
        var generator = SeededGenerator.announced("subscriber walks")
        for _ in 0..<2_000 {
            var model = Model()
            var nextSlot: UInt32 = 0
            for _ in 0..<Int.random(in: 0...40, using: &generator) {
                model.add(nextSlot)
                nextSlot += 1
            }
            let before = Set(model.positions.keys)
            var left: Set<UInt32> = []
            var reached: [UInt32] = []
            model.list.beginWalk()
            var position = 0
            while position < model.list.slots.count {
                let end = min(position + Int.random(in: 1...8, using: &generator), model.list.slots.count)
                reached += model.list.slots[position..<end].filter { $0 != SubscriberList.tombstone }
                position = end
                for _ in 0..<Int.random(in: 0...4, using: &generator) {
                    if Bool.random(using: &generator),
                        let slot = model.positions.keys.randomElement(using: &generator)
                    {
                        model.remove(slot)
                        left.insert(slot)
                    } else if nextSlot < 100 {
                        model.add(nextSlot)
                        nextSlot += 1
                    }
                }
            }
            model.list.endWalk { slot, position in model.positions[slot] = position }
            #expect(Set(reached).count == reached.count)
            #expect(before.subtracting(left).isSubset(of: reached))
            #expect(model.list.count == model.positions.count)
            #expect(model.list.slots.count == model.positions.count)
            for (slot, position) in model.positions { #expect(model.list.slots[Int(position)] == slot) }
        }
    }
}
