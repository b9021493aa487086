// How many watch an auction, as the gateways keep it in Redis. A thread of its own asks, for all who wait at once; when
// Redis is away or slow the answer is "not known", because nobody's request may hang on a number for show.

import Dispatch
import Foundation
import RedisLink
import Synchronization

final class ViewerCounts: Sendable {
    /// Numbers that a gateway wrote longer ago are of one that died.
    private static let freshMilliseconds: Int64 = 15_000
    private static let timeoutMilliseconds: Int32 = 250
    /// After a failure a server is left alone for so long.
    private static let pauseSeconds = 1.0
    private static let waitingRequests = 4_096

    private struct Request: Sendable {
        let auctionID: String
        let answer: CheckedContinuation<Int?, Never>
    }

    private struct Queue {
        var requests: [Request] = []
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
        thread.name = "viewers"
        thread.start()
    }

    /// The number of viewers; `nil` when it is not known.
    func count(of auctionID: String) async -> Int? {
        await withCheckedContinuation { answer in
            let isQueued = queue.withLock { queue in
                guard !queue.isClosed, queue.requests.count < Self.waitingRequests else { return false }
                queue.requests.append(Request(auctionID: auctionID, answer: answer))
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
            let (requests, isClosed) = queue.withLock { queue in
                defer { queue.requests = [] }
                return (queue.requests, queue.isClosed)
            }
            for (server, waiting) in Dictionary(
                grouping: requests, by: { RedisKeys.server(of: $0.auctionID, count: redisURLs.count) })
            {
                var counts: [Int]?
                if Date.now >= pausedUntil[server] {
                    do throws(RedisClient.Failure) {
                        counts = try ask(server, waiting.map(\.auctionID), &clients[server])
                    } catch {
                        clients[server] = nil
                        pausedUntil[server] = Date.now + Self.pauseSeconds
                    }
                }
                for (index, request) in waiting.enumerated() {
                    request.answer.resume(returning: counts?[index])
                }
            }
            if isClosed { return }
        }
    }

    private func ask(
        _ server: Int, _ auctionIDs: [String], _ client: inout RedisClient?
    ) throws(RedisClient.Failure) -> [Int] {
        let connection =
            if let client { client } else {
                try RedisClient(url: redisURLs[server], timeoutMilliseconds: Self.timeoutMilliseconds)
            }
        client = connection
        let commands = [["TIME"]] + auctionIDs.map { ["HVALS", RedisKeys.viewers($0)] }
        let replies = try connection.pipeline(commands.map { $0.map { Array($0.utf8) } })
        let clock = (replies[0].array ?? []).compactMap { $0.bytes.flatMap(Self.number) }
        let now = clock.count == 2 ? clock[0] * 1_000 + clock[1] / 1_000 : 0
        return replies.dropFirst().map { Self.sum($0.array ?? [], now: now) }
    }

    /// The fresh ones of `count:milliseconds`, summed.
    private static func sum(_ entries: [RedisReply], now: Int64) -> Int {
        entries.reduce(0) { sum, entry in
            let parts = String(decoding: entry.bytes ?? [], as: UTF8.self).split(separator: ":")
            guard parts.count == 2, let count = Int(parts[0]), let written = Int64(parts[1]),
                now - written < freshMilliseconds
            else { return sum }
            return sum + count
        }
    }

    private static func number(_ bytes: [UInt8]) -> Int64? { Int64(String(decoding: bytes, as: UTF8.self)) }
}
