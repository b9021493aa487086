// The bid API's connections to PostgreSQL. Each kind of work has its own pool, so that none waits for
// another. Each connection is prepared when it opens. The first one applies the migrations.

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

    init(servers: DatabaseServers, unreadable: UnreadableRows, counters: BidAPICounters) {
        let flag = MigrationFlag()
        let migrate = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            connection.reportUnreadable = unreadable.note
            guard !flag.isSet else { return }
            try Migrations.apply(connection)
            flag.set()
        }
        // Bid statements touch single rows by key. Planning them each time would cost more than running them.
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
            servers: servers, threads: Limits.databaseConnections, jobLimit: Limits.waitingJobs,
            waited: { counters.addWait("general", $0) }, prepare: migrate)
        bids = DatabasePool(
            servers: servers, threads: Limits.bidTransactions, jobLimit: Limits.bidTransactions,
            waited: { counters.addWait("bids", $0) }, prepare: prepareBids)
        search = DatabasePool(
            servers: servers, threads: Limits.searchConnections, jobLimit: Limits.waitingJobs,
            waited: { counters.addWait("search", $0) }, prepare: migrate)
        closer = DatabasePool(
            servers: servers, threads: 1, jobLimit: 1, waited: { counters.addWait("closer", $0) },
            prepare: migrate)
    }

    func close() {
        for pool in [closer, general, bids, search] { pool.close() }
    }
}

/// True once this process has applied the migrations.
private final class MigrationFlag: Sendable {
    private let value = Atomic<Bool>(false)

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
