// Bids through the bid API at a steady rate. Each bid has a moment when it is due, and its latency counts
// from then, so that a server that answers slowly does not slow the measurement down.

import Foundation
import Histogram
import LoadClient
import LoadEngine
import Reactor
import Settings
import Synchronization

struct BidLoad {
    private struct Tally {
        var latency = Histogram<UInt32>(
            highestTrackableValue: 600_000_000, numberOfSignificantValueDigits: .three)
        var answers: [Int: Int] = [:]
    }

    private let port: Int
    private let auctions: Int
    private let bidders: Int
    private let connections: Int
    private let contenders: Int
    private let rate: Double
    private let seconds: Int

    init(_ values: SettingsValues) {
        port = values.number("bid-api-port")
        auctions = values.number("auctions")
        bidders = values.number("bidders")
        connections = values.number("connections")
        contenders = values.number("contenders")
        rate = Double(values.number("rate"))
        seconds = values.number("seconds")
    }

    func run() throws {
        let run = String(Int.random(in: 100_000...999_999))
        let seller = try BidClient(port: port, username: "load-seller-\(run)")
        let ids = try (0..<auctions).map { index in
            try seller.createAuction(
                #"{"title":"load \#(index)","starting_price":1,"bid_increment":0.01,"duration_seconds":86400}"#
            )
        }
        let tokens = try (0..<bidders).map { try BidClient(port: port, username: "load-\(run)-\($0)").token }
        print("\(bidders) bidders, \(auctions) auctions: \(ids.prefix(5).joined(separator: " "))")
        let tally = Mutex(Tally())
        let next = Atomic<Int>(0)
        let total = Int(rate) * seconds
        let start = Clock.wallMicroseconds()
        let finished = DispatchGroup()
        for _ in 0..<connections {
            finished.enter()
            let (port, rate, contenders) = (port, rate, contenders)
            Thread.detachNewThread {
                let http = HTTPClient(port: port)
                while case let bid = next.add(1, ordering: .relaxed).oldValue, bid < total {
                    let due = start + Int64(Double(bid) / rate * 1_000_000)
                    let wait = due - Clock.wallMicroseconds()
                    if wait > 0 { Processor.pause(microseconds: Int(wait)) }
                    // Prices rise by a cent; of those that bid the same, and of those that come late, most
                    // are refused, as in life.
                    let cents = 100 + bid / ids.count / contenders
                    let amount = "\(cents / 100)." + (cents % 100 < 10 ? "0" : "") + "\(cents % 100)"
                    let reply = try? http.request(
                        "POST", "/api/v1/auctions/\(ids[bid % ids.count])/bids",
                        // Each auction's next bid is another bidder's.
                        token: tokens[(bid + bid / ids.count) % tokens.count],
                        json: #"{"amount":\#(amount)}"#)
                    let took = Clock.wallMicroseconds() - due
                    tally.withLock {
                        $0.latency.record(UInt64(max(0, took)))
                        $0.answers[reply?.status ?? 0, default: 0] += 1
                    }
                }
                finished.leave()
            }
        }
        finished.wait()
        let elapsed = Double(Clock.wallMicroseconds() - start) / 1_000_000
        tally.withLock { tally in
            let answers = tally.answers.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }
            print("\(Int(Double(total) / elapsed)) bids a second; answers \(answers.joined(separator: ", "))")
            print(
                "from due to answered: p50 \(tally.latency.valueAtPercentile(50)) µs, "
                    + "p99 \(tally.latency.valueAtPercentile(99)) µs, max \(tally.latency.max) µs")
        }
    }
}
