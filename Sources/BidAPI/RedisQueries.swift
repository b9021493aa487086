// Small questions to Redis: how many watch, who may go on. A thread of its own asks for all who wait at once; when Redis
// is away or slow there is no answer, because nobody's request may hang on it.

import Dispatch
import Foundation
import RedisLink
import Synchronization

final class RedisQueries: Sendable {
    private static let timeoutMilliseconds: Int32 = 250
    /// After a failure a server is left alone for so long.
    private static let pauseSeconds = 1.0
    private static let waitingLimit = 4_096

    private struct Query: Sendable {
        let server: Int
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
    private let redisURLs: [RedisURL]

    init(redisURLs: [RedisURL]) {
        self.redisURLs = redisURLs
        finished.enter()
        let thread = Thread { [self] in
            run()
            finished.leave()
        }
        thread.name = "queries"
        thread.start()
    }

    /// The replies of the server that the auction or user `id` lives on; `nil` when it does not answer in time.
    func ask(_ id: String, _ commands: [[String]]) async -> [RedisReply]? {
        let server = RedisKeys.server(of: id, count: redisURLs.count)
        return await withCheckedContinuation { answer in
            let isQueued = queue.withLock { queue in
                guard !queue.isClosed, queue.queries.count < Self.waitingLimit else { return false }
                queue.queries.append(Query(server: server, commands: commands, answer: answer))
                return true
            }
            if isQueued { signal.signal() } else { answer.resume(returning: nil) }
        }
    }

    /// Answers what waits and ends the thread. Blocks.
    func stop() {
        queue.withLock { $0.isClosed = true }
        signal.signal()
        finished.wait()
    }

    private func run() {
        var clients: [RedisClient?] = redisURLs.map { _ in nil }
        var pausedUntil = redisURLs.map { _ in Date.distantPast }
        while true {
            signal.wait()
            let (queries, isClosed) = queue.withLock { queue in
                defer { queue.queries = [] }
                return (queue.queries, queue.isClosed)
            }
            for (server, waiting) in Dictionary(grouping: queries, by: \.server) {
                var replies: [RedisReply]?
                if Date.now >= pausedUntil[server] {
                    do throws(RedisClient.Failure) {
                        replies = try ask(server, waiting.flatMap(\.commands), &clients[server])
                    } catch {
                        clients[server] = nil
                        pausedUntil[server] = Date.now + Self.pauseSeconds
                    }
                }
                var start = 0
                for query in waiting {
                    let end = start + query.commands.count
                    query.answer.resume(returning: replies.map { Array($0[start..<end]) })
                    start = end
                }
            }
            if isClosed { return }
        }
    }

    private func ask(
        _ server: Int, _ commands: [[String]], _ client: inout RedisClient?
    ) throws(RedisClient.Failure) -> [RedisReply] {
        let connection =
            if let client { client } else {
                try RedisClient(url: redisURLs[server], timeoutMilliseconds: Self.timeoutMilliseconds)
            }
        client = connection
        return try connection.pipeline(commands.map { $0.map { Array($0.utf8) } })
    }
}
