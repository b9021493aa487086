// The kernel's answer as a typed value.

import CLinux
import Glibc

/// An error number from a system call, and the call that gave it.
package struct Errno: Error, Equatable, CustomStringConvertible {
    package let code: Int32
    package let call: String

    /// The calling thread's `errno`.
    package static func last(_ call: String) -> Errno {
        Errno(code: gavelcast_errno(), call: call)
    }

    package init(code: Int32, call: String) {
        self.code = code
        self.call = call
    }

    package var description: String { "\(call): \(String(cString: strerror(code)))" }

    /// The failure to listen, and what to do about it.
    package var listeningFailure: String {
        let advice: String? =
            switch code {
            case EADDRINUSE: "another program uses the address"
            case EEXIST: "the file is not a socket; remove it or choose another path"
            case ENOENT, ENOTDIR: "create the folder first"
            case EADDRNOTAVAIL: "this machine has no such address"
            case EACCES: "this user may not listen there"
            default: nil
            }
        return advice.map { "\(self); \($0)" } ?? description
    }
}
