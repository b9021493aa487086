// Small queries to Redis: viewer counts and rate limits. Each server has a thread that sends all waiting
// queries at once. If a server is down or slow, a query gets no answer, because no request may hang on it.

import Dispatch
import Foundation
import RedisLink
import Synchronization

struct RedisQueries: Sendable {
    private let servers: [ServerQueries]

    init(redisURLs: [RedisURL]) {
        servers = redisURLs.map(ServerQueries.init)
    }

    /// The replies of the server that the auction or user `id` lives on; `nil` when it does not answer in
    /// time.
    func ask(_ id: String, _ commands: [[String]]) async -> [RedisReply]? {
        await servers[RedisKeys.server(of: id, count: servers.count)].ask(commands)
    }

    /// Answers what waits and ends the threads. Blocks.
    func stop() {
        for server in servers { server.stop() }
    }
}

private final class ServerQueries: Sendable {
    private struct Query: Sendable {
        let commands: [[String]]
        let answer: CheckedContinuation<[RedisReply]?, Never>
    }

    private struct Queue {
        var queries: [Query] = []
        var isClosed = false
    }

    private let queue = Mutex(Queue())
    private let signal = DispatchSemaphore(value: 0)
    private let finished = DispatchGroup()
    private let url: RedisURL

    init(url: RedisURL) {
        self.url = url
        finished.enter()
        let thread = Thread { [self] in
            run()
            finished.leave()
        }
        thread.name = "queries"
        thread.start()
    }

    func ask(_ commands: [[String]]) async -> [RedisReply]? {
        await withCheckedContinuation { answer in
            let isQueued = queue.withLock { queue in
                guard !queue.isClosed, queue.queries.count < Limits.waitingQuestions else { return false }
                queue.queries.append(Query(commands: commands, answer: answer))
                return true
            }
            if isQueued { signal.signal() } else { answer.resume(returning: nil) }
        }
    }

    func stop() {
        queue.withLock { $0.isClosed = true }
        signal.signal()
        finished.wait()
    }

    private func run() {
        var client: RedisClient?
        var pauseEnd = ContinuousClock.now
        // Which of the server's addresses is tried first.
        var attempts = 0
        while true {
            signal.wait()
            let (waiting, isClosed) = queue.withLock { queue in
                defer { queue.queries = [] }
                return (queue.queries, queue.isClosed)
            }
            var replies: [RedisReply]?
            if !waiting.isEmpty, ContinuousClock.now >= pauseEnd {
                do throws(RedisClient.Failure) {
                    let all = try ask(waiting.flatMap(\.commands), &client, attempts)
                    // Leave a demoted server, for instance. Any other error belongs to its own query.
                    if let refusal = all.lazy.compactMap(\.refusal).first(where: \.concernsServer) {
                        throw RedisClient.Failure(description: refusal.description)
                    }
                    replies = all
                    attempts = 0
                } catch {
                    client = nil
                    attempts += 1
                    pauseEnd = ContinuousClock.now + Limits.questionPause
                }
            }
            var start = 0
            for query in waiting {
                let end = start + query.commands.count
                query.answer.resume(returning: replies.map { Array($0[start..<end]) })
                start = end
            }
            if isClosed { return }
        }
    }

    private func ask(
        _ commands: [[String]], _ client: inout RedisClient?, _ attempts: Int
    ) throws(RedisClient.Failure) -> [RedisReply] {
        let connection =
            if let client { client } else {
                try RedisClient(
                    url: url, timeoutMilliseconds: Limits.questionMilliseconds, skippedAddresses: attempts)
            }
        client = connection
        return try connection.pipeline(commands.map { $0.map { Array($0.utf8) } })
    }
}
