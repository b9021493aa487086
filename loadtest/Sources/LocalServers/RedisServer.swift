// A private Redis that its owner may kill, pause and start again on the same port.

import Foundation
package import RedisLink

package final class RedisServer {
    package let port: Int
    /// For TLS; `nil` without a certificate.
    package let securePort: Int?
    private let certificate: LocalCertificate?
    private let arguments: [String]
    private let password: String?
    private var process: ChildProcess?
    /// True while its processes are stopped by a signal.
    private var isPaused = false

    /// - Parameters:
    ///   - certificate: for a further port with TLS.
    ///   - arguments: more settings, as `redis-server` takes them.
    ///   - password: with which our own clients sign in.
    package init(certificate: LocalCertificate? = nil, arguments: [String] = [], password: String? = nil)
        throws
    {
        port = try Ports.free()
        self.arguments = arguments
        self.password = password
        self.certificate = certificate
        securePort = certificate == nil ? nil : try Ports.free()
        try start()
    }

    /// A Sentinel.
    /// - Parameter sentinel: lines of its configuration, which it rewrites.
    init(sentinel lines: [String]) throws {
        port = try Ports.free()
        password = nil
        certificate = nil
        securePort = nil
        let file = Guardian.shared.folder + "/sentinel-\(port).conf"
        try (lines + [""]).joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
        arguments = [file, "--sentinel"]
        try start()
    }

    package var url: String { "redis://\(password.map { ":\($0)@" } ?? "")127.0.0.1:\(port)" }
    package var isRunning: Bool { process?.isRunning ?? false }
    package var isAnswering: Bool { isRunning && !isPaused }
    /// The address with TLS, on a server that has a certificate.
    package var secureURL: String {
        guard let securePort, let certificate else { preconditionFailure("this Redis speaks no TLS") }
        return "rediss://127.0.0.1:\(securePort)?ca=\(certificate.certificate)"
    }

    package func client() throws -> RedisClient {
        try RedisClient(url: RedisURL(text: url))
    }

    package func start() throws {
        let common = ["--port", "\(port)", "--bind", "127.0.0.1", "--dir", Guardian.shared.folder]
        let isSentinel = arguments.last == "--sentinel"
        process = try ChildProcess(
            "redis",
            ["redis-server"]
                + (isSentinel
                    ? arguments + common
                    : common + ["--save", "", "--appendonly", "no", "--dbfilename", snapshot] + arguments
                        + secureArguments))
        try eventually("Redis answers") { (try? self.client().call("PING")) == .status("PONG") }
    }

    /// The file in which a replica keeps what its master sent first.
    private var snapshot: String { "redis-\(port).rdb" }

    private var secureArguments: [String] {
        guard let securePort, let certificate else { return [] }
        return [
            "--tls-port", "\(securePort)", "--tls-cert-file", certificate.certificate, "--tls-key-file",
            certificate.key, "--tls-auth-clients", "no", "--tls-ca-cert-file", certificate.certificate,
        ]
    }

    /// Ends it as a power cut would; its data are gone.
    package func kill() {
        process?.kill(SIGKILL)
        process?.waitForExit()
        process = nil
        isPaused = false
        try? FileManager.default.removeItem(atPath: Guardian.shared.folder + "/" + snapshot)
    }

    package func signal(_ signal: Int32) {
        process?.kill(signal)
        if signal == SIGSTOP { isPaused = true }
        if signal == SIGCONT { isPaused = false }
    }

    /// Sends a command that must succeed.
    func accept(_ command: String...) throws {
        let reply = try client().call(command.map { Array($0.utf8) })
        if let refusal = reply.refusal { throw ServerFailure(description: refusal.text) }
    }

    package func publish(_ auctionID: String, _ json: String) throws {
        _ = try client().call("PUBLISH", RedisKeys.channel(auctionID), json)
    }
}
