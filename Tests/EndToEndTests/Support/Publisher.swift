// A publisher that knows what is true: every event of its auctions, in order. It writes to Redis as the bid
// API's relay does, fills a Redis that lost its data, and can repeat, reorder and lose what it sends over
// pub/sub.

import Foundation
import LocalServers
import RedisLink
import TestSupport
import Testing

/// An auction as its watchers should come to see it.
struct AuctionTruth: Equatable, Sendable {
    var sequence = 0
    var price = 0
    var bids = 0
    var extensions = 0
    var isEnded = false

    /// The state as Redis holds it.
    var json: String {
        #"{"seq":\#(sequence),"status":"\#(isEnded ? "sold" : "active")","current_price":\#(price),"#
            + #""bid_count":\#(bids),"extensions":\#(extensions)}"#
    }

    init() {}

    /// What a SNAPSHOT shows; `nil` for an auction without a state.
    init(_ snapshot: Received) throws {
        sequence = snapshot.sequence
        guard let state = snapshot.state else { return }
        price = try #require(state["current_price"] as? Int)
        bids = try #require(state["bid_count"] as? Int)
        extensions = try #require(state["extensions"] as? Int)
        isEnded = state["status"] as? String == "sold"
    }

    mutating func apply(_ event: Received) throws {
        sequence = event.sequence
        switch event.type {
        case "BID_UPDATE":
            price = try #require(event.json["current_price"] as? Int)
            bids = try #require(event.json["bid_count"] as? Int)
        case "TIME_EXTENDED": extensions += 1
        case "AUCTION_ENDED": isEnded = true
        default: throw TimedOut(description: "an event that nobody published: \(event.text)")
        }
    }
}

/// How pub/sub treats what it is given.
struct Disorder: Sendable {
    /// One in so many; 0 for never.
    var repeats = 0
    var losses = 0
    var swaps = 0
}

final class Publisher {
    let auctionID: String
    private let redisURL: String
    private let filler: String
    private var generator: SeededGenerator
    private var client: RedisClient?
    private(set) var truth = AuctionTruth()
    /// Every event, the first at index 0, and whether each is lossless.
    private(set) var events: [String] = []
    private(set) var isLossless: [Bool] = []
    /// How much of them Redis has, as far as we know; `nil` after a loss of the connection.
    private var stored: Int?
    private var delayed: String?

    init(auctionID: String, redisURL: String, fillerBytes: Int, generator: SeededGenerator) {
        self.auctionID = auctionID
        self.redisURL = redisURL
        self.generator = generator
        filler = String(repeating: "x", count: fillerBytes)
    }

    /// Makes the next event, and brings Redis up to date if that can be reached.
    func publishNext(_ disorder: Disorder) {
        truth.sequence += 1
        let isExtension = Int.random(in: 0..<12, using: &generator) == 0
        if isExtension {
            truth.extensions += 1
            append("TIME_EXTENDED", #""reason":"test""#)
        } else {
            truth.price += Int.random(in: 1...500, using: &generator)
            truth.bids += 1
            append(
                "BID_UPDATE", #""current_price":\#(truth.price),"bid_count":\#(truth.bids),"f":"\#(filler)""#)
        }
        bringUp(disorder)
    }

    /// Ends the auction; called until Redis has it.
    func finish() -> Bool {
        if !truth.isEnded {
            truth.sequence += 1
            truth.isEnded = true
            append("AUCTION_ENDED", #""outcome":"sold""#)
        }
        bringUp(Disorder())
        return stored == events.count
    }

    private func append(_ type: String, _ members: String) {
        events.append(
            #"{"type":"\#(type)","auction_id":"\#(auctionID)","seq":\#(truth.sequence),\#(members)}"#)
        isLossless.append(type != "BID_UPDATE")
    }

    /// Writes what Redis lacks: log, state, PUBLISH, in one transaction.
    private func bringUp(_ disorder: Disorder) {
        do {
            let client = try client ?? RedisClient(url: RedisURL(text: redisURL), timeoutMilliseconds: 500)
            self.client = client
            let held = try stored ?? heldByRedis(client)
            var commands: [[String]] = [["MULTI"]]
            // An emptied Redis gets the end of the log, not all of it.
            for sequence in max(held, events.count - 900)..<events.count {
                commands.append(
                    [
                        "XADD", RedisKeys.log(auctionID), "MAXLEN", "~", "1024", "\(sequence + 1)-0", "e",
                        events[sequence],
                    ])
            }
            commands.append(["SET", RedisKeys.state(auctionID), truth.json])
            commands += events[held...].flatMap { publications(of: $0, disorder) }.map {
                ["PUBLISH", RedisKeys.channel(auctionID), $0]
            }
            commands.append(["EXEC"])
            let replies = try client.pipeline(commands.map { $0.map { Array($0.utf8) } })
            guard replies.last?.array != nil else { throw TimedOut(description: "refused") }
            stored = events.count
        } catch {
            client = nil
            stored = nil
        }
    }

    private func heldByRedis(_ client: RedisClient) throws -> Int {
        guard let state = try client.call("GET", RedisKeys.state(auctionID)).bytes else { return 0 }
        return try Received(String(decoding: state, as: UTF8.self)).sequence
    }

    /// The messages that pub/sub is given for one event.
    private func publications(of event: String, _ disorder: Disorder) -> [String] {
        func happens(_ one: Int) -> Bool { one > 0 && Int.random(in: 0..<one, using: &generator) == 0 }
        var messages = happens(disorder.losses) ? [] : [event]
        if happens(disorder.repeats) { messages.append(event) }
        if let late = delayed {
            messages.append(late)
            delayed = nil
        } else if happens(disorder.swaps) {
            delayed = messages.popLast()
        }
        return messages
    }
}
