// Where servers listen, and where our programs are.

import Foundation
import Reactor

package enum Ports {
    /// A port that nobody listens on now.
    package static func free() throws -> Int {
        let listener = try Sockets.listen(on: SocketAddress(host: "127.0.0.1", port: 0), sharesPort: false)
        defer { Sockets.close(listener) }
        guard let address = SocketAddress.local(of: listener) else {
            throw ServerFailure(description: "no port is free")
        }
        return Int(address.port)
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
