// Replays recorded auctions through the bid API: every recorded maximum is a proxy bid, in the order of its
// time, and each auction must end at the price that was recorded. Time is compressed: only the order counts.

import Dispatch
import Foundation
import LoadClient
import LoadEngine
import Settings
import Synchronization

struct Replay {
    /// eBay's increments of the recordings' time, as the bid API takes them.
    private static let increments = [
        ("0", "0.05"), ("1", "0.25"), ("5", "0.50"), ("25", "1"), ("100", "2.50"), ("250", "5"),
        ("500", "10"),
        ("1000", "25"), ("2500", "50"), ("5000", "100"),
    ]
    private static let columns = ["auctionid", "bid", "bidtime", "bidder", "openbid", "price"]

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// One recorded auction.
    struct Recording: Sendable {
        let id: String
        let openingPrice: String
        let price: Double
        /// Maximum and bidder, in the order of time.
        var bids: [(maximum: String, bidder: String, time: Double)] = []
    }

    fileprivate struct Tally {
        var next = 0
        var matches = 0
        var misses: [String] = []
        var failure: String?
    }

    private let port: Int
    private let connections: Int
    private let seconds: Int
    private let recordings: [Recording]

    init(_ values: SettingsValues) throws {
        port = values.number("bid-api-port")
        connections = values.number("connections")
        seconds = values.number("seconds")
        recordings = try Self.read(try String(contentsOfFile: values.text("csv"), encoding: .utf8))
    }

    /// Reads the file: a line of column names, then a line a bid.
    static func read(_ text: String) throws -> [Recording] {
        let lines = text.split(whereSeparator: \.isNewline)
        let header = lines.first?.split(separator: ",").map(String.init) ?? []
        let places = try columns.map { column in
            guard let place = header.firstIndex(of: column) else {
                throw Failure(description: "csv: has no column '\(column)'")
            }
            return place
        }
        var order: [String] = []
        var recordings: [String: Recording] = [:]
        for (number, line) in lines.enumerated().dropFirst() {
            let cells = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            guard cells.count == header.count, let time = Double(cells[places[2]]),
                let price = Double(cells[places[5]])
            else { throw Failure(description: "csv: line \(number + 1) does not match the header") }
            let id = cells[places[0]]
            if recordings[id] == nil {
                order.append(id)
                recordings[id] = Recording(id: id, openingPrice: cells[places[4]], price: price)
            }
            recordings[id]?.bids.append((cells[places[1]], cells[places[3]], time))
        }
        return order.compactMap { recordings[$0] }.map { recording in
            var recording = recording
            recording.bids = recording.bids.enumerated()
                .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
            return recording
        }
    }

    /// Replays all and prints matches and misses.
    func run() throws {
        let run = String(Int.random(in: 100_000...999_999))
        let seller = try BidClient(port: port, username: "replay-seller-\(run)")
        // A bidder is somebody else in each auction, so that as many users do as one auction has bidders.
        let most = recordings.map { Set($0.bids.map(\.bidder)).count }.max() ?? 0
        let tokens = try (0..<most).map { try BidClient(port: port, username: "replay-\(run)-\($0)").token }
        let tally = Mutex(Tally())
        let finished = DispatchGroup()
        for _ in 0..<connections {
            finished.enter()
            let (recordings, port, seconds, sellerToken) = (recordings, port, seconds, seller.token)
            Thread.detachNewThread {
                let http = HTTPClient(port: port)
                while case let index = tally.withLock({ $0.takeNext() }), index < recordings.count {
                    do {
                        let recording = recordings[index]
                        let price = try Self.replay(
                            recording, http, sellerToken: sellerToken, tokens: tokens, seconds: seconds)
                        tally.withLock { $0.compare(recording, price) }
                    } catch {
                        tally.withLock { $0.failure = "\(error)" }
                    }
                }
                finished.leave()
            }
        }
        finished.wait()
        try tally.withLock { tally in
            if let failure = tally.failure { throw Failure(description: failure) }
            for miss in tally.misses.sorted() { print(miss) }
            print("\(recordings.count) auctions: \(tally.matches) match, \(tally.misses.count) miss")
        }
    }

    /// Returns the price at which the auction ended.
    private static func replay(
        _ recording: Recording, _ http: HTTPClient, sellerToken: String, tokens: [String], seconds: Int
    ) throws -> Double {
        let rows = increments.map { #"{"from":\#($0),"increment":\#($1)}"# }.joined(separator: ",")
        let created = try http.request(
            "POST", "/api/v1/auctions", token: sellerToken,
            json: #"{"title":"\#(recording.id)","starting_price":\#(recording.openingPrice),"#
                + #""increment_table":[\#(rows)],"duration_seconds":\#(seconds)}"#)
        guard created.status == 201, let id = created.json["auction_id"] as? String else {
            throw Failure(description: "creating \(recording.id): \(created.status) \(created.text)")
        }
        var bidders: [String: Int] = [:]
        for bid in recording.bids {
            let bidder = bidders[bid.bidder] ?? bidders.count
            bidders[bid.bidder] = bidder
            let reply = try http.request(
                "POST", "/api/v1/auctions/\(id)/proxy", token: tokens[bidder],
                json: #"{"max_amount":\#(bid.maximum)}"#)
            // What the rules refuse was refused then, too.
            guard reply.status == 201 || reply.status == 409 else {
                throw Failure(
                    description: "bidding on \(recording.id): \(reply.status) \(reply.text)"
                        + (reply.status == 410 ? " (--seconds is too short for its bids)" : ""))
            }
        }
        while true {
            let auction = try http.request("GET", "/api/v1/auctions/\(id)").json
            if auction["status"] as? String != "active" {
                return (auction["current_price"] as? NSNumber)?.doubleValue ?? 0
            }
            Processor.pause(microseconds: 100_000)
        }
    }
}

extension Replay.Tally {
    fileprivate mutating func takeNext() -> Int {
        next += 1
        return next - 1
    }

    fileprivate mutating func compare(_ recording: Replay.Recording, _ price: Double) {
        if abs(price - recording.price) < 0.005 {
            matches += 1
        } else {
            misses.append("\(recording.id): recorded \(recording.price), ended at \(price)")
        }
    }
}
