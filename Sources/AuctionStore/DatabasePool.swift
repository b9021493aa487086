// Blocking connections, each on its own thread, behind a bounded queue of jobs. The async side of the bid API
// awaits a job's result and never blocks.

import Dispatch
import Foundation
import Synchronization

package final class DatabasePool: Sendable {
    package typealias Job = @Sendable (borrowing Access) -> Void

    /// Gives a job a connection, or the reason why there is none.
    package struct Access: ~Copyable {
        fileprivate let slot: Slot

        /// Runs `body` on the thread's connection. Connects first if necessary.
        package func use<Result>(
            _ body: (PostgresConnection) throws(DatabaseError) -> Result
        ) throws(DatabaseError) -> Result {
            let connection = try slot.connect()
            defer { slot.discardIfBroken() }
            do throws(DatabaseError) {
                return try body(connection)
            } catch {
                // A read-only server changed nothing, so the job may run again. Another server may accept it.
                guard connection.hasRefusedWrites else { throw error }
                return try body(try slot.connect())
            }
        }
    }

    /// A thread's connection. Confined to that thread.
    fileprivate final class Slot {
        private static let longestRest = Duration.seconds(1)

        private let servers: DatabaseServers
        private let prepare: @Sendable (PostgresConnection) throws(DatabaseError) -> Void
        private var connection: PostgresConnection?
        /// Until this moment, jobs get `lastFailure` without a new attempt to connect.
        private(set) var restsUntil = ContinuousClock.now
        private var lastFailure: DatabaseError?

        init(
            servers: DatabaseServers,
            prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void
        ) {
            self.servers = servers
            self.prepare = prepare
        }

        func connect() throws(DatabaseError) -> PostgresConnection {
            // Replace a connection that the server closed while it was idle, or that is read-only now. The
            // next caller would get an error from it.
            if let connection, connection.isStillOpen { return connection }
            connection = nil
            let start = ContinuousClock.now
            if let lastFailure, start < restsUntil { throw lastFailure }
            do throws(DatabaseError) {
                let new = try PostgresConnection(servers)
                try prepare(new)
                connection = new
                return new
            } catch {
                // Many jobs may queue behind a slow attempt. They fail with its error, so that they do not
                // each wait for an attempt of their own.
                restsUntil = .now + min(.now - start, Self.longestRest)
                lastFailure = error
                throw error
            }
        }

        func discardIfBroken() {
            if connection?.isBroken == true { connection = nil }
        }
    }

    private struct State {
        var jobs: [(job: Job, since: ContinuousClock.Instant)] = []
        var isClosed = false
        /// By thread: until when it rests after a slow attempt to connect that failed.
        var rests: [ContinuousClock.Instant]
    }

    private let state: Mutex<State>
    private let available = DispatchSemaphore(value: 0)
    private let finished = DispatchGroup()
    private let jobLimit: Int
    private let waited: @Sendable (Duration) -> Void

    /// - Parameters:
    ///   - threads: connections.
    ///   - jobLimit: the most jobs that wait.
    ///   - waited: called with how long each job has waited for a connection's thread.
    ///   - prepare: called with each new connection before its first use.
    package init(
        servers: DatabaseServers, threads: Int, jobLimit: Int,
        waited: @escaping @Sendable (Duration) -> Void = { _ in },
        prepare: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Void
    ) {
        self.jobLimit = jobLimit
        self.waited = waited
        state = Mutex(State(rests: [ContinuousClock.Instant](repeating: .now, count: threads)))
        for index in 0..<threads {
            finished.enter()
            let thread = Thread { [self] in
                work(Slot(servers: servers, prepare: prepare), index)
                finished.leave()
            }
            thread.name = "database-\(index)"
            thread.start()
        }
    }

    /// Queues a job; false when too many wait or the pool is closed.
    package func submit(_ job: @escaping Job) -> Bool {
        let accepted = state.withLock { state in
            guard !state.isClosed, state.jobs.count < jobLimit else { return false }
            state.jobs.append((job, .now))
            return true
        }
        if accepted { available.signal() }
        return accepted
    }

    /// Runs `body` on a connection and returns its result.
    package func run<Result: Sendable>(
        _ body: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Result
    ) async throws(DatabaseError) -> Result {
        let outcome: Swift.Result<Result, DatabaseError> = await withCheckedContinuation { continuation in
            let accepted = submit { access in
                do throws(DatabaseError) {
                    continuation.resume(returning: .success(try access.use(body)))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            if !accepted { continuation.resume(returning: .failure(.unavailable("too many requests wait"))) }
        }
        return try outcome.get()
    }

    /// Lets queued jobs finish, then ends the threads and waits for them. Blocks.
    package func close() {
        state.withLock { $0.isClosed = true }
        available.signal()
        finished.wait()
    }

    private func work(_ slot: Slot, _ index: Int) {
        while true {
            rest(slot, index)
            available.wait()
            let (job, isOver) = state.withLock { state in
                (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.isClosed)
            }
            if let job {
                waited(.now - job.since)
                job.job(Access(slot: slot))
            } else if isOver {
                // Wakes the next thread, which ends in the same way.
                available.signal()
                return
            }
        }
    }

    /// Leaves the jobs to the other threads for a moment, if this one could only fail them. When all threads
    /// rest, the last one goes on, and jobs fail at once.
    private func rest(_ slot: Slot, _ index: Int) {
        let now = ContinuousClock.now
        let othersServe = state.withLock { state in
            state.rests[index] = slot.restsUntil
            return state.rests.contains { $0 <= now }
        }
        guard slot.restsUntil > now, othersServe else { return }
        let pause = (slot.restsUntil - now) / .seconds(1)
        Thread.sleep(forTimeInterval: pause)
    }
}
