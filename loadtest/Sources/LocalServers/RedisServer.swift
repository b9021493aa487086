// A private Redis that its owner may kill, pause and start again on the same port.

import Foundation
package import RedisLink

package final class RedisServer {
    package let port: Int
    private var process: ChildProcess?

    package init() throws {
        port = try Ports.free()
        try start()
    }

    package var url: String { "redis://127.0.0.1:\(port)" }

    package func client() throws -> RedisClient {
        try RedisClient(url: RedisURL(text: url))
    }

    package func start() throws {
        process = try ChildProcess(
            "redis",
            [
                "redis-server", "--port", "\(port)", "--bind", "127.0.0.1", "--save", "", "--appendonly",
                "no", "--dir",
                Guardian.shared.folder,
            ])
        try eventually("Redis answers") { (try? self.client().call("PING")) == .status("PONG") }
    }

    /// Ends it as a power cut would; its data are gone.
    package func kill() {
        process?.kill(SIGKILL)
        process?.waitForExit()
        process = nil
    }

    package func signal(_ signal: Int32) {
        process?.kill(signal)
    }

    package func publish(_ auctionID: String, _ json: String) throws {
        _ = try client().call("PUBLISH", RedisKeys.channel(auctionID), json)
    }
}
