import Fanout
import TestSupport
import Testing

@Suite struct ConnectionSlabTests {
    @Test("random use agrees with a dictionary, and no stale address is taken for a live one")
    func agreesWithModel() {
        var generator = SeededGenerator.announced("slab")
        var slab = ConnectionSlab(capacity: 64)
        var model: [UInt32: (descriptor: Int32, generation: UInt32)] = [:]
        var stale: [(slot: UInt32, generation: UInt32)] = []
        for step in 0..<300_000 {
            if Bool.random(using: &generator) {
                let slot = slab.insert(descriptor: Int32(step))
                #expect((slot == nil) == (model.count == 64))
                if let slot {
                    #expect(model[slot] == nil)
                    model[slot] = (Int32(step), slab[slot].generation)
                }
            } else if let (slot, entry) = model.randomElement(using: &generator) {
                #expect(slab.isCurrent(slot, generation: entry.generation) == true)
                #expect(slab[slot].descriptor == entry.descriptor)
                slab.remove(slot)
                model[slot] = nil
                stale.append((slot, entry.generation))
                if stale.count > 200 { stale.removeFirst() }
            }
            if let old = stale.randomElement(using: &generator) {
                #expect(slab.isCurrent(old.slot, generation: old.generation) == false)
            }
            #expect(slab.count == model.count)
        }
    }

    @Test("a record stays small")
    func recordSize() {
        #expect(MemoryLayout<ConnectionRecord>.stride <= 40)
    }
}
