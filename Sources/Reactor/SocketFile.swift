// The file of a Unix socket that this process listens on, as it was when listening began. Whoever listens
// removes it in the end. A successor may have put its own socket at the same path by then, which must stay.

import Glibc

package struct SocketFile: Sendable {
    private struct Identity: Equatable {
        let device: dev_t
        let inode: ino_t
        /// The kernel gives a freed inode to the next file.
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

    private let path: String
    private let identity: Identity

    /// `nil` for an address that leaves no file behind.
    package init?(listeningOn address: SocketAddress) {
        guard let path = address.path, let identity = Identity(path: path) else { return nil }
        self.path = path
        self.identity = identity
    }

    /// Removes the file, if it still is the same one.
    package func remove() {
        if Identity(path: path) == identity { unlink(path) }
    }
}
