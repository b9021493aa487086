import Fanout
import Testing

@Suite struct ConnectionPhaseTests {
    private static let phases = (ConnectionPhase.free.rawValue...ConnectionPhase.lingering.rawValue)
        .compactMap(ConnectionPhase.init)

    @Test("exactly the named moves are legal")
    func table() {
        for phase in Self.phases {
            for next in Self.phases {
                #expect(phase.mayBecome(next) == phase.successors.contains(next), "\(phase) to \(next)")
            }
        }
    }

    @Test("every phase can be reached, and nothing follows the last")
    func reachability() {
        var reached: Set<ConnectionPhase> = [.free]
        for _ in Self.phases { for phase in reached { reached.formUnion(phase.successors) } }
        #expect(reached.count == Self.phases.count)
        #expect(ConnectionPhase.lingering.successors.isEmpty)
        // Nothing may follow our last words but the end.
        #expect(ConnectionPhase.closing.successors == [.lingering])
    }

    @Test("an illegal move traps")
    func illegalMove() async {
        await #expect(processExitsWith: .failure) {
            var slab = ConnectionSlab(capacity: 1)
            if let slot = slab.insert(descriptor: 0) { slab.transition(slot, to: .watching) }
        }
    }

    @Test("a record is 40 bytes")
    func recordSize() {
        #expect(MemoryLayout<ConnectionRecord>.stride == 40)
    }
}
