// Counts the rows that this version cannot read, and logs each distinct message once. Such a row was written
// by a newer version during a rolling upgrade, or by hand.

import Logging
import Synchronization

final class UnreadableRows: Sendable {
    let count = BidAPICounters.Count()
    private let logged = Mutex<Set<String>>([])
    private let logger: Logger

    init(logger: Logger) {
        self.logger = logger
    }

    /// - Parameter what: names the row or its kind.
    func note(_ what: String) {
        count.add()
        let isNew = logged.withLock { logged in
            logged.count < Limits.loggedUnreadableRows && logged.insert(what).inserted
        }
        guard isNew else { return }
        logger.error("a row is left out because this version cannot read it", metadata: ["row": "\(what)"])
    }
}
