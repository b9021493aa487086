import Fanout
import TestSupport
import Testing

@Suite struct TimerWheelTests {
    @Test("random schedules fire as a naive list of deadlines would")
    func agreesWithModel() {
        var generator = SeededGenerator.announced("timer wheel")
        var now: UInt32 = 1_000
        var wheel = TimerWheel(now: now)
        var model: [UInt32: UInt32] = [:]
        for _ in 0..<300_000 {
            let slot = UInt32.random(in: 0..<200, using: &generator)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<6:
                let deadline = now + UInt32.random(in: 0...1_500, using: &generator)
                wheel.schedule(slot, at: deadline)
                model[slot] = max(deadline, now + 1)
            case 6..<8:
                wheel.cancel(slot)
                model[slot] = nil
            default:
                now += UInt32.random(in: 0...20, using: &generator)
                var fired: Set<UInt32> = []
                while let slot = wheel.popExpired(now: now) { #expect(fired.insert(slot).inserted == true) }
                let due = Set(model.filter { $0.value <= now }.keys)
                #expect(fired == due)
                for slot in due { model[slot] = nil }
            }
            #expect(wheel.count == model.count)
        }
    }

    @Test("a timer that fires may move and cancel others that are due at the same tick")
    func firingChangesOthers() {
        var wheel = TimerWheel(now: 0)
        for slot in UInt32(0)..<4 { wheel.schedule(slot, at: 5) }
        let first = wheel.popExpired(now: 5)
        for slot in UInt32(0)..<4 where slot != first {
            slot % 2 == 0 ? wheel.cancel(slot) : wheel.schedule(slot, at: 9)
        }
        #expect(wheel.popExpired(now: 5) == nil)
        var later: [UInt32] = []
        while let slot = wheel.popExpired(now: 9) { later.append(slot) }
        #expect(later.sorted() == [1, 3].filter { $0 != first })
    }
}
