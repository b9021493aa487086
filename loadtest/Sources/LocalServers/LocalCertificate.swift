// A certificate for this machine's own addresses, made with the openssl command, for tests and load runs.

import Foundation
package import TransportSecurity

package struct LocalCertificate: Sendable {
    /// PEM files.
    package let certificate: String
    package let key: String

    /// Makes a certificate that is its own authority, with an EC key.
    /// - Parameter names: as OpenSSL writes alternative names.
    package init(names: String = "DNS:localhost,IP:127.0.0.1") throws {
        let base = Guardian.shared.folder + "/certificate-\(UUID().uuidString)"
        certificate = base + ".pem"
        key = base + ".key"
        let process = try ChildProcess(
            "openssl",
            [
                "/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "2", "-subj", "/CN=gavelcast test", "-addext", "subjectAltName=\(names)", "-keyout",
                key, "-out",
                certificate,
            ])
        guard process.waitForExit() == 0 else { throw ServerFailure(description: "openssl: \(process.log)") }
    }

    /// What clients need to trust it.
    package func client() throws(TLSError) -> TLSClientContext {
        try TLSClientContext(authorities: certificate)
    }
}
