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
}
