// What the TLS connections to one kind of server share: which authorities are trusted.

import COpenSSL

package final class TLSClientContext: Sendable {
    // SAFETY: made in init and freed in deinit; OpenSSL counts the references of sessions and locks what it
    // changes.
    nonisolated(unsafe) let context: OpaquePointer

    /// - Parameter authorities: a PEM file of certificates to trust; `nil` for the system's.
    /// - Throws: when the file cannot be used.
    package init(authorities: String?) throws(TLSError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else {
            throw TLSError(description: "OpenSSL: \(TLSSession.lastError ?? "no memory")")
        }
        self.context = context
        TLSMode.apply(to: context)
        let isSet =
            if let authorities {
                SSL_CTX_load_verify_file(context, authorities) == 1
            } else {
                SSL_CTX_set_default_verify_paths(context) == 1
            }
        guard isSet else {
            throw TLSError(
                description:
                    "cannot load the CA certificates from '\(authorities ?? "the system")': \(TLSSession.lastError ?? "")"
            )
        }
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    }

    deinit {
        SSL_CTX_free(context)
    }
}
