// A publisher for load runs: on a thread of its own it publishes events at a given rate, whatever the servers
// do, and remembers what is true. It writes to Redis as the bid API's relay does (log, state and PUBLISH in
// one step) and fills a Redis again that lost its data.

import AuctionEvents
import DequeModule
import Dispatch
package import Histogram
import Reactor
package import RedisLink

/// A stretch of publishing. Events fall due at even intervals; one that is published late still says when it
/// was due.
package struct PublishingPlan: Sendable {
    /// Events a second over all auctions.
    package var rate: Double
    package var events: Int
    /// So many fall due at once.
    package var burst = 1

    package init(rate: Double, events: Int, burst: Int = 1) {
        self.rate = rate
        self.events = events
        self.burst = burst
    }
}

package struct PublishingReport: Sendable {
    package var events = 0
    package var seconds = 0.0
    /// From when events were due to when Redis had taken them, in microseconds.
    package var lateness = Histogram<UInt32>(
        highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: .three)
    package var redisFailures = 0

    package init() {}
}

package final class EventSource: Sendable {
    private enum Command: Sendable {
        case publish(PublishingPlan, Answer<PublishingReport>)
        case refill(Answer<Bool>)
        case truth(Answer<[AuctionTruth]>)
        case stop
    }

    private let commands = CommandQueue<Command>()
    package let auctions: [String]

    /// - Parameters:
    ///   - fillerBytes: added to each event; without, one has about 250 bytes.
    ///   - losslessEvery: every so many events of an auction is a TIME_EXTENDED; 0 for none.
    ///   - core: the processor the thread stays on.
    package init(
        redis: RedisURL, auctions: [String], fillerBytes: Int = 0, losslessEvery: Int = 50, core: Int? = nil
    ) {
        self.auctions = auctions
        let commands = commands
        _ = LoopThread(name: "publisher") {
            if let core { Processor.pin(to: core) }
            var writer = EventWriter(
                redis: redis, auctions: auctions, fillerBytes: fillerBytes, losslessEvery: losslessEvery)
            while true {
                for command in commands.waitForAll() {
                    guard answer(command, &writer) else { return }
                }
            }
        }

        // What is asked while events are being published is answered in between.
        @Sendable func answer(_ command: Command, _ writer: inout EventWriter) -> Bool {
            switch command {
            case .publish(let plan, let answer):
                var later: [Command] = []
                let report = writer.publish(plan) { writer in
                    for command in commands.takeAll() {
                        switch command {
                        case .truth(let answer): answer.give(writer.truth)
                        case .refill, .publish, .stop: later.append(command)
                        }
                    }
                }
                for command in later { commands.post(command) }
                answer.give(report)
            case .refill(let answer): answer.give(writer.refill())
            case .truth(let answer): answer.give(writer.truth)
            case .stop: return false
            }
            return true
        }
    }

    /// Begins publishing; the answer comes when all is published.
    package func begin(_ plan: PublishingPlan) -> Answer<PublishingReport> {
        let answer = Answer<PublishingReport>()
        commands.post(.publish(plan, answer))
        return answer
    }

    package func publish(_ plan: PublishingPlan) -> PublishingReport {
        begin(plan).wait()
    }

    /// Has a Redis that lost its data filled again, as the bid API's relay does when it notices. The answer
    /// is false when it cannot be reached.
    package func refill() -> Answer<Bool> {
        let answer = Answer<Bool>()
        commands.post(.refill(answer))
        return answer
    }

    /// What is true now, by auction.
    package func truth() -> [AuctionTruth] {
        let answer = Answer<[AuctionTruth]>()
        commands.post(.truth(answer))
        return answer.wait()
    }

    package func stop() {
        commands.post(.stop)
    }
}

/// The thread's own part.
private struct EventWriter {
    private struct Auction {
        let id: String
        var truth = AuctionTruth()
        /// The last events, for a Redis that lost its log.
        var recent: Deque<[UInt8]> = []
        /// How many events Redis has.
        var stored: UInt64 = 0
    }

    private static let longestPause = 0.005
    private static let retrySeconds = 0.05
    /// Events of one auction in one step.
    private static let batchLimit = 200

    private let redis: RedisURL
    private let filler: String
    private let losslessEvery: Int
    private let recentLimit: Int
    private var auctions: [Auction]
    private var unsent: Set<Int> = []
    private var client: RedisClient?
    private var hasLostRedis = false

    init(redis: RedisURL, auctions: [String], fillerBytes: Int, losslessEvery: Int) {
        self.redis = redis
        self.auctions = auctions.map { Auction(id: $0) }
        filler = String(repeating: "x", count: fillerBytes)
        self.losslessEvery = losslessEvery
        // About 300 MB at most, however many auctions.
        recentLimit = max(16, min(1_000, 1_000_000 / max(1, auctions.count)))
    }

    var truth: [AuctionTruth] { auctions.map(\.truth) }

    /// - Parameter between: called again and again.
    mutating func publish(
        _ plan: PublishingPlan, between: (EventWriter) -> Void
    ) -> PublishingReport {
        var report = PublishingReport()
        let start = Clock.wallMicroseconds()
        func due(_ event: Int) -> Int64 {
            start + Int64(Double(event / plan.burst * plan.burst) / plan.rate * 1_000_000)
        }
        var made = 0
        var dues: [Int64] = []
        while made < plan.events || !unsent.isEmpty {
            between(self)
            let now = Clock.wallMicroseconds()
            while made < plan.events, case let moment = due(made), moment <= now {
                makeEvent(auction: made % auctions.count, due: moment)
                dues.append(moment)
                made += 1
            }
            if !unsent.isEmpty, !send(&report) {
                Processor.pause(microseconds: Int(Self.retrySeconds * 1_000_000))
                continue
            }
            let sent = Clock.wallMicroseconds()
            for moment in dues { report.lateness.record(UInt64(max(0, sent - moment))) }
            dues.removeAll(keepingCapacity: true)
            guard made < plan.events else { continue }
            let pause = min(Double(due(made) - sent) / 1_000_000, Self.longestPause)
            if pause > 0 { Processor.pause(microseconds: max(20, Int(pause * 1_000_000))) }
        }
        report.events = made
        report.seconds = Double(Clock.wallMicroseconds() - start) / 1_000_000
        return report
    }

    private mutating func makeEvent(auction index: Int, due: Int64) {
        let sequence = auctions[index].truth.last + 1
        let id = auctions[index].id
        let time = Timestamp(milliseconds: due / 1_000)
        let isLossless = losslessEvery > 0 && sequence.isMultiple(of: UInt64(losslessEvery))
        let head =
            #"{"type":"\#(isLossless ? "TIME_EXTENDED" : "BID_UPDATE")","auction_id":"\#(id)","seq":\#(sequence),"#
            + #""server_time":"\#(time)","#
        let price = Money(minorUnits: Int64(sequence) * 100, decimals: 2)
        let body =
            isLossless
            ? #""new_ends_at":"\#(time)","previous_ends_at":"\#(time)","reason":"anti_sniping""#
            : #""bid":{"bidder":"b\#(sequence % 97)","amount":\#(price),"rank":1},"current_price":\#(price),"#
                + #""bid_count":\#(sequence),"reserve_met":true"#
        let json = Array((head + body + #","f":"\#(filler)","due_us":\#(due)}"#).utf8)
        let hash = json.withUnsafeBytes { ScannedMessage($0).hash }
        auctions[index].truth.append(hash: hash, isLossless: isLossless)
        auctions[index].recent.append(json)
        if auctions[index].recent.count > recentLimit,
            auctions[index].stored >= auctions[index].truth.last - UInt64(recentLimit)
        {
            auctions[index].recent.removeFirst()
        }
        unsent.insert(index)
    }

    // MARK: Redis

    mutating func refill() -> Bool {
        hasLostRedis = true
        unsent.formUnion(auctions.indices.filter { auctions[$0].truth.last > 0 })
        var report = PublishingReport()
        // Once more, because the connection to the Redis that was is found to be broken.
        return send(&report) || send(&report)
    }

    /// Writes what Redis lacks; false when it cannot be reached.
    private mutating func send(_ report: inout PublishingReport) -> Bool {
        do {
            let client = try client ?? RedisClient(url: redis)
            self.client = client
            if hasLostRedis { try compare(client) }
            for index in unsent {
                while auctions[index].stored < auctions[index].truth.last { try bringUp(index, client) }
            }
            unsent = []
            return true
        } catch {
            client = nil
            hasLostRedis = true
            report.redisFailures += 1
            return false
        }
    }

    /// Finds out what Redis has of each auction after its loss.
    private mutating func compare(_ client: RedisClient) throws {
        for start in stride(from: 0, to: auctions.count, by: 500) {
            let part = start..<min(auctions.count, start + 500)
            let keys = part.map { Array(RedisKeys.state(auctions[$0].id).utf8) }
            let states = try client.call([Array("MGET".utf8)] + keys).array ?? []
            for (index, state) in zip(part, states) {
                let held = state.bytes.flatMap {
                    $0.withUnsafeBytes { ScannedMessage.number(after: #""seq":"#, in: $0)?.value }
                }
                auctions[index].stored = min(held ?? 0, auctions[index].truth.last)
                if auctions[index].stored < auctions[index].truth.last { unsent.insert(index) }
            }
        }
        hasLostRedis = false
    }

    private mutating func bringUp(_ index: Int, _ client: RedisClient) throws {
        let auction = auctions[index]
        // What is too old for the log is not written again.
        let oldest = auction.truth.last - UInt64(auction.recent.count)
        let from = max(auction.stored, oldest)
        let to = min(auction.truth.last, from + UInt64(Self.batchLimit))
        let events = (from..<to).map { auction.recent[Int($0 - oldest)] }
        var commands: [[[UInt8]]] = [[Array("MULTI".utf8)]]
        for (offset, event) in events.enumerated() {
            let entry = [
                "XADD", RedisKeys.log(auction.id), "MAXLEN", "~", "1024", "\(from + UInt64(offset) + 1)-0",
                "e",
            ]
            commands.append(entry.map { Array($0.utf8) } + [event])
        }
        let state = #"{"seq":\#(to),"status":"active","current_price":\#(to),"bid_count":\#(to)}"#
        commands.append(["SET", RedisKeys.state(auction.id), state].map { Array($0.utf8) })
        let channel = ["PUBLISH", RedisKeys.channel(auction.id)].map { Array($0.utf8) }
        commands += events.map { channel + [$0] }
        commands.append([Array("EXEC".utf8)])
        guard try client.pipeline(commands).last?.array != nil else {
            throw RedisClient.Failure(description: "Redis refused")
        }
        auctions[index].stored = to
    }
}
