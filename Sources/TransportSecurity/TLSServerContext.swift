// What all TLS connections of a gateway share: certificates chosen by the server name that the client asks
// for, versions and ciphers, and the keys of session tickets. Immutable once made; a reload makes a new one,
// and connections keep theirs.

import COpenSSL

package struct TLSError: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
}

/// A PEM file with a certificate and its chain, and one with its private key.
package struct TLSCertificateFiles: Sendable, Equatable {
    package let certificate: String
    package let key: String

    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

package final class TLSServerContext: Sendable {
    /// A ticket's name, its authentication key and its encryption key.
    package static let ticketKeyBytes = 80
    /// Forward secrecy and authenticated encryption only; those of TLS 1.3 are OpenSSL's own choice.
    private static let ciphers =
        "ECDHE+AESGCM:ECDHE+CHACHA20"
    private static let protocolName: [UInt8] = Array("http/1.1".utf8)

    // SAFETY: made in init and freed in deinit; OpenSSL counts the references of sessions and locks what it
    // changes.
    /// One context per certificate. The first one serves clients that name no host, or an unknown host.
    private nonisolated(unsafe) let contexts: [OpaquePointer]

    var initial: OpaquePointer { contexts[0] }

    /// Reads the certificates.
    /// - Parameters:
    ///   - ticketKey: 80 random bytes that gateways share, so that each can resume the others' sessions.
    ///     `nil` makes a new key, which makes earlier tickets worthless.
    /// - Throws: which file cannot be used, and why.
    package init(_ files: [TLSCertificateFiles], ticketKey: [UInt8]?) throws(TLSError) {
        guard !files.isEmpty else { throw TLSError(description: "no certificate is given") }
        var contexts: [OpaquePointer] = []
        do throws(TLSError) {
            for pair in files { contexts.append(try Self.context(pair)) }
        } catch {
            contexts.forEach(SSL_CTX_free)
            throw error
        }
        self.contexts = contexts
        var key = ticketKey ?? Self.ticketKey(of: contexts[0])
        for context in contexts { _ = gavelcast_ssl_set_ticket_keys(context, &key, key.count) }
        guard contexts.count > 1 else { return }
        // SAFETY: the pointer is used by the callback alone, while a session exists that holds on to this
        // object.
        let this = Unmanaged.passUnretained(self).toOpaque()
        _ = gavelcast_ssl_on_server_name(contexts[0], Self.chooseCertificate, this)
    }

    deinit {
        contexts.forEach(SSL_CTX_free)
    }

    private static func ticketKey(of context: OpaquePointer) -> [UInt8] {
        var key = [UInt8](repeating: 0, count: ticketKeyBytes)
        _ = gavelcast_ssl_get_ticket_keys(context, &key, key.count)
        return key
    }

    private static func context(_ files: TLSCertificateFiles) throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_server_method()) else {
            throw TLSError(description: "OpenSSL: \(TLSSession.lastError ?? "no memory")")
        }
        func check(_ isFine: Bool, _ what: String) throws(TLSError) {
            guard !isFine else { return }
            SSL_CTX_free(context)
            throw TLSError(description: "\(what): \(TLSSession.lastError ?? "refused")")
        }
        TLSMode.apply(to: context)
        _ = gavelcast_ssl_server_options(context)
        try check(SSL_CTX_set_cipher_list(context, ciphers) == 1, "ciphers")
        try check(gavelcast_ssl_groups(context, "X25519:P-256:P-384") == 1, "groups")
        // Sessions live in the clients' tickets alone: nothing is kept here.
        _ = gavelcast_ssl_no_cache(context)
        SSL_CTX_set_num_tickets(context, 1)
        SSL_CTX_set_session_id_context(context, protocolName, UInt32(protocolName.count))
        SSL_CTX_set_alpn_select_cb(context, chooseProtocol, nil)
        try check(
            SSL_CTX_use_certificate_chain_file(context, files.certificate) == 1,
            "the certificate '\(files.certificate)' cannot be used")
        try check(
            SSL_CTX_use_PrivateKey_file(context, files.key, SSL_FILETYPE_PEM) == 1,
            "the key '\(files.key)' cannot be used")
        try check(
            SSL_CTX_check_private_key(context) == 1,
            "the key '\(files.key)' does not belong to the certificate '\(files.certificate)'")
        return context
    }

    // SAFETY: OpenSSL calls these two during a handshake with pointers that are valid for the call; `output`
    // is made to point into the client's own list, as the function's documentation asks.
    /// ALPN (RFC 7301): only HTTP/1.1 is spoken. A client that offers other protocols alone is refused.
    private static let chooseProtocol:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?,
            UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
        ) -> Int32 = { _, output, outputCount, offered, offeredCount, _ in
            var position = 0
            while let offered, position < Int(offeredCount) {
                let count = Int(offered[position])
                let name = UnsafeBufferPointer(start: offered + position + 1, count: count)
                guard position + 1 + count <= Int(offeredCount) else { break }
                if name.elementsEqual(TLSServerContext.protocolName) {
                    output?.pointee = name.baseAddress
                    outputCount?.pointee = UInt8(count)
                    return SSL_TLSEXT_ERR_OK
                }
                position += 1 + count
            }
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }

    /// SNI (RFC 6066, 3): the certificate that names the host the client asks for.
    private static let chooseCertificate:
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<Int32>?, UnsafeMutableRawPointer?) -> Int32 = {
            ssl, _, argument in
            guard let argument, let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) else {
                return SSL_TLSEXT_ERR_OK
            }
            let this = Unmanaged<TLSServerContext>.fromOpaque(argument).takeUnretainedValue()
            let chosen = this.contexts.first { context in
                X509_check_host(SSL_CTX_get0_certificate(context), name, 0, 0, nil) == 1
            }
            if let chosen { SSL_set_SSL_CTX(ssl, chosen) }
            return SSL_TLSEXT_ERR_OK
        }
}

/// What servers and clients have in common.
enum TLSMode {
    // SAFETY: `context` is the caller's, who has just made it.
    /// Allows TLS 1.2 and 1.3. OpenSSL frees its buffers while they are idle. A retried write may come from
    /// another buffer. A long write may end after a record.
    static func apply(to context: OpaquePointer) {
        _ = gavelcast_ssl_mode(
            context,
            Int(SSL_MODE_RELEASE_BUFFERS) | Int(SSL_MODE_ENABLE_PARTIAL_WRITE)
                | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        // A read ends after each record, even one without data. Otherwise a peer that sends endless key
        // updates would hold the thread in one call.
        _ = gavelcast_ssl_clear_mode(context, Int(SSL_MODE_AUTO_RETRY))
        _ = gavelcast_ssl_versions(context, TLS1_2_VERSION, TLS1_3_VERSION)
    }
}
