// The bid API's connections to PostgreSQL: a pool for each kind of work, so that none waits behind another.
// Each connection is prepared when it opens: the first one brings the database up to date.

import AuctionStore
import Synchronization

struct Pools {
    let general: DatabasePool
    let bids: DatabasePool
    let search: DatabasePool
    /// The closer must not wait behind a rush of bids.
    let closer: DatabasePool
    /// Prepares the relay's own connections.
    let prepareRelay: @Sendable (PostgresConnection) throws(DatabaseError) -> Void

    init(url: String, unreadable: UnreadableRows) {
        let flag = MigrationFlag()
        let migrate = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            connection.reportUnreadable = unreadable.note
            guard !flag.isSet else { return }
            try Migrations.apply(connection)
            flag.set()
        }
        // Statements of bids touch single rows by key: planning them each time would cost more than they do.
        let planOnce = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try migrate(connection)
            try connection.query("SET plan_cache_mode = force_generic_plan")
        }
        let prepareBids = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try planOnce(connection)
            try connection.endIdleTransactions(afterMilliseconds: Limits.idleTransactionMilliseconds)
        }
        prepareRelay = planOnce
        general = DatabasePool(
            url: url, threads: Limits.databaseConnections, jobLimit: Limits.waitingJobs, prepare: migrate)
        bids = DatabasePool(
            url: url, threads: Limits.bidTransactions, jobLimit: Limits.bidTransactions, prepare: prepareBids)
        search = DatabasePool(
            url: url, threads: Limits.searchConnections, jobLimit: Limits.waitingJobs, prepare: migrate)
        closer = DatabasePool(url: url, threads: 1, jobLimit: 1, prepare: migrate)
    }

    func close() {
        for pool in [closer, general, bids, search] { pool.close() }
    }
}

/// Whether this process has brought the database up to date.
private final class MigrationFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
