// Reads that a replica of PostgreSQL may serve: public lists, searches and bid histories. The replica serves
// them while its data are fresh enough and while it answers. Otherwise the primary does, so an answer is
// never older than `read-lag-seconds`. The answer's age is declared in a header.
//
// A failure takes the replica out of use. Only the heartbeat then asks it, and no request waits for it until
// it has answered.

import AuctionStore
import Logging
import Reactor
import ServiceLifecycle
import Synchronization

final class ReadReplica: Sendable {
    /// What is read. Searches may take long, so they have their own connections.
    enum Kind {
        case page, search
    }

    private let pages: DatabasePool
    private let searches: DatabasePool
    private let beats: Mutex<ReplicaBeats>
    private let isUsable = Atomic<Bool>(true)
    private let counters: BidAPICounters
    private let logger: Logger

    /// What the replica answered, and how old its data were at most.
    struct Answer<Value: Sendable>: Sendable {
        let value: Value
        let ageMilliseconds: Int64
    }

    init(
        servers: DatabaseServers, limitMilliseconds: Int64, unreadable: UnreadableRows,
        counters: BidAPICounters, logger: Logger
    ) {
        self.counters = counters
        self.logger = logger
        beats = Mutex(ReplicaBeats(limitMilliseconds: limitMilliseconds))
        func pool(_ threads: Int) -> DatabasePool {
            DatabasePool(servers: servers, threads: threads, jobLimit: Limits.waitingJobs) { connection in
                connection.reportUnreadable = unreadable.note
            }
        }
        pages = pool(Limits.replicaConnections)
        searches = pool(Limits.replicaSearches)
    }

    /// The replica's answer; `nil` when the primary is to be asked.
    func read<Value: Sendable>(
        _ kind: Kind, _ body: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Value
    ) async -> Answer<Value>? {
        let answer = isUsable.load(ordering: .relaxed) ? await ask(kind, body) : nil
        if answer == nil { counters.replicaMisses.add() } else { counters.replicaReads.add() }
        return answer
    }

    private func ask<Value: Sendable>(
        _ kind: Kind, _ body: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Value
    ) async -> Answer<Value>? {
        await withCheckedContinuation { continuation in
            let caller = Caller<Answer<Value>>(continuation)
            let pool = kind == .search ? searches : pages
            let isAccepted = pool.submit { [self] access in
                do throws(DatabaseError) {
                    caller.resume(
                        try access.use { connection throws(DatabaseError) in try read(connection, body) })
                } catch {
                    // A search that took too long, for instance, says nothing about the replica.
                    if !error.concernsStatementOnly { fail(error) }
                    caller.resume(nil)
                }
            }
            guard isAccepted else { return caller.resume(nil) }
            Task {
                try? await Task.sleep(
                    for: kind == .search ? Limits.replicaSearchTime : Limits.replicaPageTime)
                caller.resume(nil)
            }
        }
    }

    private func read<Value: Sendable>(
        _ connection: PostgresConnection, _ body: (PostgresConnection) throws(DatabaseError) -> Value
    ) throws(DatabaseError) -> Answer<Value>? {
        let beat = try ReplicaBeat.last(connection)
        let value = try body(connection)
        // The data are as old as the beat. They have aged further while they were read.
        let age = beats.withLock { $0.ageMilliseconds(of: beat, now: Clock.monotonicMilliseconds()) }
        return age.map { Answer(value: value, ageMilliseconds: $0) }
    }

    private func fail(_ error: DatabaseError) {
        guard isUsable.exchange(false, ordering: .relaxed) else { return }
        logger.warning(
            "the replica does not answer; the primary serves lists and histories",
            metadata: ["error": "\(error)"])
    }

    /// Notes a beat that the primary has counted.
    func record(_ beat: ReplicaBeat, askedAt: Int64) {
        beats.withLock { $0.record(beat, askedAt: askedAt) }
    }

    /// Asks a replica that is out of use, and takes it into use when it answers.
    func tryAgain() async {
        guard !isUsable.load(ordering: .relaxed) else { return }
        do throws(DatabaseError) {
            _ = try await pages.run(ReplicaBeat.last)
            isUsable.store(true, ordering: .relaxed)
            logger.info("the replica answers again")
        } catch {
            // The loss is logged already.
        }
    }

    /// Ends the threads. Blocks.
    func close() {
        pages.close()
        searches.close()
    }
}

/// Somebody who waits for an answer, and gets the first one that comes.
private final class Caller<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Value?, Never>?>

    init(_ continuation: CheckedContinuation<Value?, Never>) {
        self.continuation = Mutex(continuation)
    }

    func resume(_ value: Value?) {
        let waiting = continuation.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }
        waiting?.resume(returning: value)
    }
}

/// Counts the primary's beats while there is a replica, and brings a replica back that was out of use.
struct ReplicaHeartbeat: Service {
    let replica: ReadReplica
    let pool: DatabasePool

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            let askedAt = Clock.monotonicMilliseconds()
            // Without the primary there are no beats, and the replica's data grow too old.
            if let beat = try? await pool.run(ReplicaBeat.next) { replica.record(beat, askedAt: askedAt) }
            await replica.tryAgain()
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.replicaBeatInterval) }
        }
    }
}
