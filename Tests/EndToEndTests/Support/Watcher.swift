// A watcher as a careful client is: it keeps every message and checks the promises as they come.

import Foundation
import LoadClient
import Testing

/// One message of the gateway, parsed.
struct Received {
    let text: String
    let json: [String: Any]

    var type: String { json["type"] as? String ?? "" }
    var sequence: Int { json["seq"] as? Int ?? 0 }
    var state: [String: Any]? { json["state"] as? [String: Any] }
}

final class Watcher {
    let socket: WebSocketClient
    /// Every text message so far.
    private(set) var messages: [Received] = []

    init(port: Int, auctionID: String, since: Int? = nil, receiveBufferBytes: Int? = nil) throws {
        socket = try WebSocketClient(
            port: port, path: "/v1/auctions/\(auctionID)/live" + (since.map { "?since=\($0)" } ?? ""),
            receiveBufferBytes: receiveBufferBytes)
        try #require(socket.handshake.status == 101)
    }

    /// The next text message; pings are answered on the way. Throws when none comes in time.
    func next(within seconds: Double = 20) throws -> Received {
        let deadline = Date.now + seconds
        while true {
            let left = max(1, Int(deadline.timeIntervalSinceNow * 1_000))
            switch try socket.next(milliseconds: left) {
            case .text(let text)?:
                let json = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
                let message = Received(text: text, json: try #require(json))
                messages.append(message)
                return message
            case .ping(let payload)?: try socket.send(WebSocketClient.frame(0xA, payload))
            case nil:
                throw TimedOut(
                    description: "no message within \(seconds) s; last: \(messages.last?.text ?? "none")")
            case let other?: throw TimedOut(description: "\(other) instead of a message")
            }
        }
    }

    /// Reads until a message satisfies `condition`, and returns it.
    @discardableResult
    func until(_ condition: (Received) -> Bool) throws -> Received {
        while true {
            let message = try next()
            if condition(message) { return message }
        }
    }

    /// The bids that came, each as "id sequence cents", the way the `bids` table is read in comparison.
    var bids: [String] {
        messages.filter { $0.type == "BID_UPDATE" }.map { message in
            let bid = message.json["bid"] as? [String: Any] ?? [:]
            let cents = Int(((bid["amount"] as? Double ?? 0) * 100).rounded())
            return "\(bid["bid_id"] ?? "") \(message.sequence) \(cents)"
        }
    }

    /// Checks that what came is a first message and then every event once, in order, with jumps declared.
    func checkPromises() throws {
        let first = try #require(messages.first)
        var cursor = first.json["since"] as? Int ?? first.sequence
        #expect(first.type == "SNAPSHOT" || first.type == "RESUMED")
        for message in messages.dropFirst() where message.sequence > 0 {
            if message.type == "SNAPSHOT" {
                #expect(message.json["complete"] as? Bool == false && message.sequence >= cursor)
            } else {
                let from = message.json["from_seq"] as? Int ?? message.sequence
                #expect(from == cursor + 1, "\(message.text) after \(cursor)")
            }
            cursor = message.sequence
        }
    }
}
