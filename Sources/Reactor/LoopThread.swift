// A plain thread for a loop. Everything the loop owns is made inside `body`, on that thread.

import CLinux
import Glibc

package struct LoopThread: ~Copyable {
    private var thread: pthread_t

    private final class Start {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts `body` on a thread called `name` (at most 15 characters are shown by the system).
    package init(name: String, _ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        // SAFETY: the box is retained here and released by the new thread, which alone reads it.
        let argument = Unmanaged.passRetained(Start(body)).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { pointer in
                Unmanaged<Start>.fromOpaque(pointer!).takeRetainedValue().body()
                return nil
            }, argument)
        precondition(result == 0, "pthread_create: \(result)")
        pthread_setname_np(thread, String(name.prefix(15)))
        self.thread = thread
    }

    /// Starts `body` on a thread that nobody waits for.
    package static func detached(name: String, _ body: @escaping @Sendable () -> Void) {
        let new = LoopThread(name: name, body)
        pthread_detach(new.thread)
    }

    /// Waits for the thread's end.
    package consuming func join() {
        pthread_join(thread, nil)
    }
}
