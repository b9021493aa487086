// One TLS connection over a non-blocking socket: a handshake, then bytes in and out. Each call has the
// outcomes of the kernel's own. The session belongs to one thread. The owner closes the socket.

import COpenSSL
import Glibc
package import Reactor

// SAFETY: `ssl` is made by the initialisers and freed by ``free()``, which the one owner calls last; copies
// of the value are the owner's own look-ups and none outlives it.
package struct TLSSession {
    /// What a handshake came to.
    package enum Handshake: Equatable, Sendable {
        case complete
        case wantsToRead
        case wantsToWrite
        /// The peer left, broke the protocol, or is not who it should be.
        case failed(String)
    }

    /// Why a handshake failed whose first bytes were a plain request (OpenSSL's words).
    package static let plainRequest = "http request"

    private let ssl: OpaquePointer
    /// Keeps what OpenSSL's callbacks refer to.
    private let owner: AnyObject

    /// The server's side of an accepted connection.
    /// - Returns: `nil` when there is no memory.
    package init?(_ context: TLSServerContext, descriptor: Int32) {
        guard let ssl = Self.make(context.initial, descriptor) else { return nil }
        SSL_set_accept_state(ssl)
        self.ssl = ssl
        owner = context
    }

    /// The client's side of a connection to `host`, whose certificate must name it.
    package init?(_ context: TLSClientContext, host: String, descriptor: Int32) {
        guard let ssl = Self.make(context.context, descriptor) else { return nil }
        SSL_set_connect_state(ssl)
        // OpenSSL compares an address with the certificate's addresses, and a name with its names. It also
        // sends a name to the server.
        if X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) != 1 {
            SSL_set1_host(ssl, host)
            _ = gavelcast_ssl_host_name(ssl, host)
        }
        self.ssl = ssl
        owner = context
    }

    private static func make(_ context: OpaquePointer, _ descriptor: Int32) -> OpaquePointer? {
        guard let ssl = SSL_new(context) else { return nil }
        guard let bio = SocketBIO.make(descriptor) else {
            SSL_free(ssl)
            return nil
        }
        // One reference serves both directions.
        SSL_set_bio(ssl, bio, bio)
        return ssl
    }

    /// Frees the session, which must not be used afterwards.
    package func free() {
        SSL_free(ssl)
    }

    // MARK: Handshake

    /// Goes on with the handshake as far as the socket allows.
    package func handshake() -> Handshake {
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        guard result != 1 else { return .complete }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .wantsToRead
        case SSL_ERROR_WANT_WRITE: return .wantsToWrite
        default: return .failed(Self.lastError ?? "the peer left")
        }
    }

    /// Makes the whole handshake on a socket whose owner can wait; returns why it failed, or `nil`.
    /// - Parameter wait: waits until the socket can be read, or written.
    package func completeHandshake<Failure>(
        _ wait: (_ forWriting: Bool) throws(Failure) -> Void
    ) throws(Failure) -> String? {
        while true {
            switch handshake() {
            case .complete: return nil
            case .wantsToRead: try wait(false)
            case .wantsToWrite: try wait(true)
            case .failed(let reason): return reason
            }
        }
    }

    /// True when the connection resumed an earlier session.
    package var isResumed: Bool { SSL_session_reused(ssl) == 1 }

    // MARK: Bytes

    // SAFETY: in receive and send the buffer is the caller's and is used for the length of the call only.
    // OpenSSL keeps no pointer to bytes it could not send: it keeps them encrypted.
    /// Reads the data of one record. `wouldBlock` also means that the record is incomplete or has no data.
    /// The socket may still hold further records.
    package func receive(into buffer: UnsafeMutableRawBufferPointer) -> Sockets.Outcome {
        ERR_clear_error()
        let count = SSL_read(ssl, buffer.baseAddress, Int32(clamping: buffer.count))
        if count > 0 { return .bytes(Int(count)) }
        switch SSL_get_error(ssl, count) {
        case SSL_ERROR_WANT_READ: return .wouldBlock
        case SSL_ERROR_ZERO_RETURN: return .closed
        // WANT_WRITE: the peer asks for new keys but does not read the answer. Treat the connection as
        // broken.
        default: return .failed(EPROTO)
        }
    }

    /// Sends at least one record of `bytes`, or nothing. After `wouldBlock`, the caller must offer the same
    /// bytes first, alone or with more after them, because OpenSSL has already encrypted them.
    package func send(_ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        ERR_clear_error()
        let count = SSL_write(ssl, bytes.baseAddress, Int32(clamping: bytes.count))
        if count > 0 { return .bytes(Int(count)) }
        switch SSL_get_error(ssl, count) {
        case SSL_ERROR_WANT_WRITE, SSL_ERROR_WANT_READ: return .wouldBlock
        default: return .failed(EPROTO)
        }
    }

    /// Sends new keys (KeyUpdate, RFC 8446, 4.6.3); only with TLS 1.3.
    package func renewKeys() -> Sockets.Outcome {
        ERR_clear_error()
        guard SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 else { return .failed(EPROTO) }
        let result = SSL_do_handshake(ssl)
        if result == 1 { return .bytes(0) }
        return SSL_get_error(ssl, result) == SSL_ERROR_WANT_WRITE ? .wouldBlock : .failed(EPROTO)
    }

    /// Tells the peer that nothing more comes (`close_notify`), as far as the socket takes it.
    package func announceEnd() {
        ERR_clear_error()
        guard SSL_in_init(ssl) == 0 else { return }
        _ = SSL_shutdown(ssl)
    }

    /// The oldest error of OpenSSL on this thread, in its words.
    static var lastError: String? {
        let code = ERR_get_error()
        guard code != 0 else { return nil }
        // OpenSSL 3 marks the system's own errors with the highest of 32 bits.
        if code & 0x8000_0000 != 0 { return String(cString: strerror(Int32(code & 0x7FFF_FFFF))) }
        if let reason = ERR_reason_error_string(code) { return String(cString: reason) }
        return "error \(code)"
    }
}
