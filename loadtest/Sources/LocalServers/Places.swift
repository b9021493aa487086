// Where servers listen, and where our programs are.

import Foundation
import Reactor
import Synchronization

package enum Ports {
    /// Below those that the kernel gives to outgoing connections, of which a load test has many: between the
    /// choice of a port and its use one of them could take it.
    private static let range = 10_000..<32_000
    private static let given = Mutex(Set<Int>())

    /// A port that nobody listens on now and that was not given before.
    package static func free() throws -> Int {
        for _ in 0..<1_000 {
            let port = Int.random(in: range)
            guard given.withLock({ $0.insert(port).inserted }) else { continue }
            let address = SocketAddress(host: "127.0.0.1", port: UInt16(port))
            guard let listener = try? Sockets.listen(on: address, sharesPort: false) else { continue }
            Sockets.close(listener)
            return port
        }
        throw ServerFailure(description: "no port is free")
    }
}

package enum Programs {
    /// One of our executables: built beside the running one, or in the folder that GAVELCAST_PROGRAMS names.
    package static func path(_ name: String) -> String {
        if let folder = ProcessInfo.processInfo.environment["GAVELCAST_PROGRAMS"] {
            return "\(folder)/\(name)"
        }
        return URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent(
                name
            ).path
    }
}
