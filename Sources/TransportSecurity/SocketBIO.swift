// Connects OpenSSL to a socket. Its reads and writes raise no SIGPIPE and buffer nothing. OpenSSL's own
// socket BIO uses write(2). On a broken connection, the signal would end a process that does not ignore it.

import CLinux
import COpenSSL
import Glibc
import Reactor

enum SocketBIO {
    // SAFETY: made once, never changed and never freed; OpenSSL reads it from any thread.
    private nonisolated(unsafe) static let method: OpaquePointer? = {
        let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gavelcast socket")
        BIO_meth_set_read(method) { bio, bytes, count in
            let read = recv(SocketBIO.descriptor(bio), bytes, Int(count), 0)
            gavelcast_bio_clear_retry(bio)
            if read < 0, SocketBIO.mayRetry { gavelcast_bio_retry_read(bio) }
            return Int32(read)
        }
        BIO_meth_set_write(method) { bio, bytes, count in
            let written = Glibc.send(SocketBIO.descriptor(bio), bytes, Int(count), gavelcast_send_flags())
            gavelcast_bio_clear_retry(bio)
            if written < 0, SocketBIO.mayRetry { gavelcast_bio_retry_write(bio) }
            return Int32(written)
        }
        // Nothing is kept here, so that a flush has nothing to do.
        BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return method
    }()

    // SAFETY: the BIO's data is no pointer to anything: it carries the descriptor's number. The caller's SSL
    // object takes the BIO over and frees it.
    /// A BIO over a socket that somebody else closes.
    static func make(_ descriptor: Int32) -> OpaquePointer? {
        guard let bio = BIO_new(method) else { return nil }
        BIO_set_data(bio, UnsafeMutableRawPointer(bitPattern: Int(descriptor) + 1))
        BIO_set_init(bio, 1)
        return bio
    }

    private static func descriptor(_ bio: OpaquePointer?) -> Int32 {
        Int32(Int(bitPattern: BIO_get_data(bio)) - 1)
    }

    private static var mayRetry: Bool { Sockets.isTemporary(gavelcast_errno()) }
}
