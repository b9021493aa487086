// Small queries to Redis: viewer counts and rate limits. Each server has a thread that sends all waiting
// queries at once. In a cluster, a query follows a slot to its node. If a server is down or slow, a query
// gets no answer, because no request may hang on it.

import Dispatch
import Foundation
import RedisLink
import Synchronization

final class RedisQueries: Sendable {
    /// At most this many of a cluster's redirects are followed for one query.
    private static let mostRedirects = 3

    private let topology: RedisTopology
    /// By the server's number.
    private let servers = Mutex<[Int: ServerQueries]>([:])

    init(topology: RedisTopology) {
        self.topology = topology
    }

    /// The replies of the server that holds `owner`; `nil` when it does not answer in time.
    func ask(_ owner: RedisOwner, _ commands: [[String]]) async -> [RedisReply]? {
        guard var number = topology.map.server(of: owner) else { return nil }
        var isAsk = false
        for _ in 0...Self.mostRedirects {
            let sent = isAsk ? commands.flatMap { [["ASKING"], $0] } : commands
            guard let server = server(number), let answers = await server.ask(sent) else { return nil }
            let replies = isAsk ? answers.enumerated().filter { $0.offset % 2 == 1 }.map(\.element) : answers
            guard let redirect = replies.lazy.compactMap({ $0.refusal.flatMap(RedisRedirect.init) }).first
            else { return replies }
            number = topology.follow(redirect, from: number)
            isAsk = redirect.isAsk
        }
        return nil
    }

    private func server(_ number: Int) -> ServerQueries? {
        let current = topology.map.servers
        guard let endpoint = current[number] else { return nil }
        return servers.withLock { servers in
            if let server = servers[number], server.endpoint === endpoint { return server }
            // Nodes that have left the cluster get no further query.
            for (other, server) in servers where server.endpoint !== current[other] {
                server.requestStop()
                servers[other] = nil
            }
            let server = ServerQueries(endpoint: endpoint)
            servers[number] = server
            return server
        }
    }

    /// Answers what waits and ends the threads. Blocks.
    func stop() {
        let all = servers.withLock { Array($0.values) }
        for server in all { server.requestStop() }
        for server in all { server.waitForEnd() }
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
    let endpoint: RedisEndpoint

    init(endpoint: RedisEndpoint) {
        self.endpoint = endpoint
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

    func requestStop() {
        queue.withLock { $0.isClosed = true }
        signal.signal()
    }

    func waitForEnd() { finished.wait() }

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
                    if let refusal = all.lazy.compactMap(\.refusal).first(where: concernsServer) {
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

    private func concernsServer(_ refusal: RedisRefusal) -> Bool {
        refusal.concernsServer && !(endpoint.isClusterNode && refusal.isPassing)
    }

    private func ask(
        _ commands: [[String]], _ client: inout RedisClient?, _ attempts: Int
    ) throws(RedisClient.Failure) -> [RedisReply] {
        if client?.isObsolete == true { client = nil }
        let connection =
            if let client { client } else {
                try RedisClient(
                    endpoint: endpoint, timeoutMilliseconds: Limits.questionMilliseconds,
                    skippedAddresses: attempts)
            }
        client = connection
        return try connection.pipeline(commands)
    }
}
