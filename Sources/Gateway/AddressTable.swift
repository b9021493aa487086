// The connections of each client address, over all loops of a gateway.

import Reactor
import Synchronization

/// How many connections each address has, over all loops. Accepts and closes take its lock where addresses
/// are limited. Deliveries never take it.
final class AddressTable: Sendable {
    private let counts = Mutex<[ClientAddress: Int]>([:])

    /// Returns how many it now has.
    func add(_ address: ClientAddress) -> Int {
        counts.withLock { counts in
            counts[address, default: 0] += 1
            return counts[address] ?? 0
        }
    }

    func remove(_ address: ClientAddress) {
        counts.withLock { counts in
            guard let count = counts[address], count > 1 else {
                counts.removeValue(forKey: address)
                return
            }
            counts[address] = count - 1
        }
    }
}
