// A private Redis that a test may kill, pause and start again on the same port.

import Foundation
import RedisLink
import Testing

final class RedisServer {
    let port: Int
    private var process: ChildProcess?

    init() throws {
        port = try Ports.free()
        try start()
    }

    var url: String { "redis://127.0.0.1:\(port)" }

    func client() throws -> RedisClient {
        try RedisClient(url: RedisURL(text: url))
    }

    func start() throws {
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
    func kill() {
        process?.kill(SIGKILL)
        process?.waitForExit()
        process = nil
    }

    func signal(_ signal: Int32) {
        process?.kill(signal)
    }

    func publish(_ auctionID: String, _ json: String) throws {
        _ = try client().call("PUBLISH", RedisKeys.channel(auctionID), json)
    }
}
