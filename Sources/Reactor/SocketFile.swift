// The file of a Unix socket that this process listens on. A process removes its own file when it ends. By
// then a successor may have put its own socket at the same path, and that one must stay. So this type
// remembers which file was at the path when listening began.

import CLinux
import Glibc

package struct SocketFile: Sendable {
    private struct Identity: Equatable {
        let device: dev_t
        let inode: ino_t
        /// The time of the inode's last change. The kernel may reuse a freed inode number for the next file.
        let changedSeconds: Int
        let changedNanoseconds: Int

        /// `nil` when there is no such file.
        init?(path: String) {
            var status = stat()
            guard lstat(path, &status) == 0 else { return nil }
            device = status.st_dev
            inode = status.st_ino
            changedSeconds = status.st_ctim.tv_sec
            changedNanoseconds = status.st_ctim.tv_nsec
        }
    }

    private let address: SocketAddress
    private let path: String
    private let identity: Identity

    /// `nil` for an address that leaves no file behind.
    package init?(listeningOn address: SocketAddress) {
        guard let path = address.path, let identity = Identity(path: path) else { return nil }
        self.address = address
        self.path = path
        self.identity = identity
    }

    /// Removes the file, if it still is the same one.
    package func remove() {
        guard let current = Identity(path: path), current.inode == identity.inode,
            current.device == identity.device
        else { return }
        // With another time, somebody has changed the file's rights, or a successor has got the same inode.
        if current == identity || isAbandoned { unlink(path) }
    }

    private var isAbandoned: Bool {
        do throws(Errno) {
            return try Sockets.isAbandoned(try address.resolve()[0])
        } catch {
            return false
        }
    }
}
