// A private Redis that its owner may kill, pause and start again on the same port.

import Foundation
package import RedisLink

package final class RedisServer {
    package let port: Int
    /// For TLS; `nil` without a certificate.
    package let securePort: Int?
    private let certificate: LocalCertificate?
    private let arguments: [String]
    private var process: ChildProcess?

    /// - Parameters:
    ///   - certificate: for a further port with TLS.
    ///   - arguments: more settings, as `redis-server` takes them.
    package init(certificate: LocalCertificate? = nil, arguments: [String] = []) throws {
        port = try Ports.free()
        self.arguments = arguments
        self.certificate = certificate
        securePort = certificate == nil ? nil : try Ports.free()
        try start()
    }

    package var url: String { "redis://127.0.0.1:\(port)" }
    /// The address with TLS, on a server that has a certificate.
    package var secureURL: String {
        guard let securePort, let certificate else { preconditionFailure("this Redis speaks no TLS") }
        return "rediss://127.0.0.1:\(securePort)?ca=\(certificate.certificate)"
    }

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
            ] + arguments + secureArguments)
        try eventually("Redis answers") { (try? self.client().call("PING")) == .status("PONG") }
    }

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
    }

    package func signal(_ signal: Int32) {
        process?.kill(signal)
    }

    package func publish(_ auctionID: String, _ json: String) throws {
        _ = try client().call("PUBLISH", RedisKeys.channel(auctionID), json)
    }
}
