import Telemetry
import Testing

@Suite struct CounterTests {
    @Test("a counter adds, goes back, and is set")
    func counting() {
        let counter = Counter()
        counter.add()
        counter.add(41)
        counter.add(-2)
        let added = counter.current
        counter.set(7)
        let set = counter.current
        #expect(added == 40 && set == 7)
    }

    @Test("resident memory is read, and does not exceed what there is")
    func memory() {
        let resident = ProcessMemory.residentBytes()
        #expect(resident > 1 << 20 && resident < ProcessMemory.available() * 64)
    }
}
