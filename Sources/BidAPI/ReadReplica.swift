// Reads that a replica of PostgreSQL may serve: public lists, searches and bid histories. A replica serves
// them while its data are fresh enough and while it answers. Otherwise the primary does, so an answer is
// never older than `read-lag-seconds`. The answer's age is declared in a header.

import AuctionStore
import Logging
import Reactor
import ServiceLifecycle
import Synchronization

final class ReadReplica: Sendable {
    private let pool: DatabasePool
    private let beats: Mutex<ReplicaBeats>
    private let counters: BidAPICounters
    private let logger: Logger
    private let state = Mutex(State())

    private struct State {
        /// Until when the replica is not asked after a failure, on the monotonic clock.
        var restsUntil: Int64 = 0
        var isFailureLogged = false
    }

    /// What the replica answered, and how old its data were at most, in milliseconds.
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
        pool = DatabasePool(
            servers: servers, threads: Limits.replicaConnections, jobLimit: Limits.waitingJobs
        ) { connection in connection.reportUnreadable = unreadable.note }
    }

    /// The replica's answer; `nil` when the primary is to be asked.
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Value
    ) async -> Answer<Value>? {
        guard Clock.monotonicMilliseconds() >= state.withLock(\.restsUntil) else { return countMiss() }
        do throws(DatabaseError) {
            let answer = try await pool.run { [self] connection throws(DatabaseError) -> Answer<Value>? in
                let beat = try ReplicaBeat.last(connection)
                let age = beats.withLock { $0.ageMilliseconds(of: beat, now: Clock.monotonicMilliseconds()) }
                guard let age else { return nil }
                return Answer(value: try body(connection), ageMilliseconds: age)
            }
            noteAnswer()
            guard let answer else { return countMiss() }
            counters.replicaReads.add()
            return answer
        } catch {
            noteFailure(error)
            return countMiss()
        }
    }

    private func countMiss<Value>() -> Answer<Value>? {
        counters.replicaMisses.add()
        return nil
    }

    private func noteAnswer() {
        let wasLogged = state.withLock { state in
            defer { state.isFailureLogged = false }
            return state.isFailureLogged
        }
        if wasLogged { logger.info("the replica answers again") }
    }

    private func noteFailure(_ error: DatabaseError) {
        let wasLogged = state.withLock { state in
            state.restsUntil = Clock.monotonicMilliseconds() + Limits.replicaRestMilliseconds
            defer { state.isFailureLogged = true }
            return state.isFailureLogged
        }
        guard !wasLogged else { return }
        logger.warning(
            "the replica does not answer; the primary serves lists and histories",
            metadata: ["error": "\(error)"])
    }

    /// Notes a beat of the primary.
    func record(_ beat: ReplicaBeat, askedAt: Int64) {
        beats.withLock { $0.record(beat, askedAt: askedAt) }
    }

    /// Ends the threads. Blocks.
    func close() { pool.close() }
}

/// Counts the primary's beats while there is a replica.
struct ReplicaHeartbeat: Service {
    let replica: ReadReplica
    let pool: DatabasePool

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            let askedAt = Clock.monotonicMilliseconds()
            // Without the primary there are no beats, and the replica's data grow too old.
            if let beat = try? await pool.run(ReplicaBeat.next) { replica.record(beat, askedAt: askedAt) }
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: Limits.replicaBeatInterval) }
        }
    }
}
