// A watcher as a careful client is: it keeps every message and checks the promises as they come, over any
// transport.

import Foundation
import LoadClient
import LocalServers
import Testing
import TransportSecurity

/// One message of the gateway, parsed.
struct Received {
    let text: String
    let json: [String: Any]

    init(_ text: String) throws {
        self.text = text
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        json = try #require(object, "no JSON object: \(text)")
    }

    var type: String { json["type"] as? String ?? "" }
    var sequence: Int { json["seq"] as? Int ?? 0 }
    var state: [String: Any]? { json["state"] as? [String: Any] }
}

/// The ports of a gateway, and whom to trust on the second.
struct GatewayPorts: Sendable {
    let plain: Int
    let secure: Int
    let tls: TLSClientContext
}

enum WatchTransport: CaseIterable, Sendable {
    case webSocket, eventStream, longPoll
    /// One auction of a connection that can carry many.
    case manyOverWebSocket, manyOverEventStream, manyOverLongPoll
    case deflatedWebSocket
    /// With compressed messages, too.
    case secureWebSocket
    case secureEventStream, secureLongPoll

    /// How it is spoken to, TLS and compression aside.
    enum Form: Sendable {
        case webSocket, eventStream, longPoll, manyOverWebSocket, manyOverEventStream
    }

    var form: Form {
        switch self {
        case .webSocket, .deflatedWebSocket, .secureWebSocket: .webSocket
        case .eventStream, .secureEventStream: .eventStream
        case .longPoll, .secureLongPoll, .manyOverLongPoll: .longPoll
        case .manyOverWebSocket: .manyOverWebSocket
        case .manyOverEventStream: .manyOverEventStream
        }
    }

    var deflates: Bool { self == .deflatedWebSocket || self == .secureWebSocket }
    var isSecure: Bool { self == .secureWebSocket || self == .secureEventStream || self == .secureLongPoll }
}

final class Watcher {
    /// The connection of one transport.
    private enum Link {
        case webSocket(WebSocketClient)
        case eventStream(EventStreamClient)
        case longPoll(HTTPClient)
    }

    let auctionID: String
    let transport: WatchTransport
    private let link: Link
    /// Every message so far.
    private(set) var messages: [Received] = []
    /// What a client would pass to go on from here: by the messages, and in the transport's own way.
    private(set) var cursor: Int?
    private(set) var streamID: String?
    /// Events of an answered poll that were not taken yet.
    private var polled: [Received] = []
    private(set) var isEnded = false
    private var stopsAtFeed = false
    /// What FEED, or the answer of a poll, said of the auction's Redis. FEED is not among the messages.
    private(set) var feeds: [Bool] = []

    init(
        _ ports: GatewayPorts, auctionID: String, over transport: WatchTransport = .webSocket,
        since: Int? = nil,
        receiveBufferBytes: Int? = nil
    ) throws {
        self.auctionID = auctionID
        self.transport = transport
        cursor = since
        let query = since.map { "?since=\($0)" } ?? ""
        let path = "/v1/auctions/\(auctionID)/live"
        let port = transport.isSecure ? ports.secure : ports.plain
        let tls = transport.isSecure ? ports.tls : nil
        switch transport.form {
        case .webSocket:
            let fields = transport.deflates ? ["Sec-WebSocket-Extensions": "permessage-deflate"] : [:]
            let socket = try WebSocketClient(
                port: port, path: path + query, tls: tls, fields: fields,
                receiveBufferBytes: receiveBufferBytes)
            try #require(socket.handshake.status == 101)
            link = .webSocket(socket)
        case .manyOverWebSocket:
            let socket = try WebSocketClient(
                port: port, path: "/v1/live", receiveBufferBytes: receiveBufferBytes)
            try #require(socket.handshake.status == 101)
            let since = since.map { #","since":\#($0)"# } ?? ""
            try socket.send(text: #"{"type":"SUBSCRIBE","auction_id":"\#(auctionID)"\#(since)}"#)
            link = .webSocket(socket)
        case .eventStream:
            // The parameter is weaker than the header, and wrong on purpose where there is one.
            let stream = try EventStreamClient(
                port: port, path: path + (since == nil ? "" : "?since=0"), tls: tls,
                fields: since.map { ["Last-Event-ID": "\($0)"] } ?? [:],
                receiveBufferBytes: receiveBufferBytes)
            try #require(stream.reply.status == 200, "\(stream.reply.status)")
            link = .eventStream(stream)
        case .manyOverEventStream:
            let stream = try EventStreamClient(
                port: port, path: "/v1/live?auctions=\(auctionID)",
                fields: since.map { ["Last-Event-ID": "\(auctionID):\($0)"] } ?? [:],
                receiveBufferBytes: receiveBufferBytes)
            try #require(stream.reply.status == 200, "\(stream.reply.status)")
            link = .eventStream(stream)
        case .longPoll: link = .longPoll(HTTPClient(port: port, tls: tls, timeoutMilliseconds: 65_000))
        }
    }

    /// The WebSocket, on a transport that has one.
    var socket: WebSocketClient {
        guard case .webSocket(let socket) = link else { preconditionFailure("\(transport) has no WebSocket") }
        return socket
    }

    /// The next message; pings and comments are dealt with on the way. Throws when none comes in time.
    func next(within seconds: Double = 20) throws -> Received {
        guard let message = try nextIfAny(within: seconds) else {
            throw TimedOut(
                description: "no message within \(seconds) s; last: \(messages.last?.text ?? "none")")
        }
        return message
    }

    /// The next message, or `nil` when none comes in time.
    func nextIfAny(within seconds: Double) throws -> Received? {
        let deadline = Date.now + seconds
        while true {
            let left = max(1, Int(deadline.timeIntervalSinceNow * 1_000))
            let text: String
            switch link {
            case .webSocket(let socket):
                switch try socket.next(milliseconds: left) {
                case .text(let message)?: text = message
                case .ping(let payload)?:
                    try socket.send(WebSocketClient.frame(0xA, payload))
                    continue
                case nil: return nil
                case let other?: throw TimedOut(description: "\(other) instead of a message")
                }
            case .eventStream(let stream):
                guard let event = try stream.next(milliseconds: left) else { return nil }
                if event.isComment || event.retry != nil { continue }
                try check(event)
                text = event.data
            case .longPoll(let client):
                guard let message = try nextPolled(client, within: seconds) else { return nil }
                return take(message)
            }
            let message = try Received(text)
            guard message.type == "FEED" else { return take(message) }
            #expect(
                message.json["auction_id"] as? String == auctionID && message.json["server_time"] is String)
            #expect(message.json["seq"] == nil)
            feeds.append(try #require(message.json["live"] as? Bool))
            if stopsAtFeed { return message }
        }
    }

    /// Waits for the next word on whether the auction's Redis delivers.
    /// - Returns: what it was, and the sequence numbers of the events that came before it.
    func nextFeed() throws -> (isLive: Bool, behind: [Int]) {
        var sequences: [Int] = []
        stopsAtFeed = true
        defer { stopsAtFeed = false }
        while true {
            let message = try next()
            guard message.type == "FEED" else {
                sequences.append(message.sequence)
                continue
            }
            return (feeds.last == true, sequences)
        }
    }

    private func take(_ message: Received) -> Received {
        messages.append(message)
        if message.type == "RESUMED" {
            cursor = message.json["since"] as? Int
        } else if message.json["seq"] != nil {
            cursor = message.sequence
        }
        return message
    }

    /// A stream's `event:` and `id:` must say what the message says.
    private func check(_ event: EventStreamClient.Event) throws {
        guard event.type != "CLOSE" else { return }
        let message = try Received(event.data)
        #expect(event.type == message.type)
        if let id = event.id { streamID = id }
        let own = message.type == "RESUMED" ? message.json["since"] : message.json["seq"]
        guard let own = own as? Int else { return #expect(event.id == nil, "\(event.data) moves no cursor") }
        #expect(streamID == (transport.form == .eventStream ? "\(own)" : "\(auctionID):\(own)"))
    }

    private func nextPolled(_ client: HTTPClient, within seconds: Double) throws -> Received? {
        if polled.isEmpty {
            let isMany = transport == .manyOverLongPoll
            let prefix = isMany ? "\(auctionID):" : ""
            let since = cursor.map { "&since=\(prefix)\($0)" } ?? ""
            let reply = try client.request(
                "GET",
                (isMany ? "/v1/live?auctions=\(auctionID)&" : "/v1/auctions/\(auctionID)/live?")
                    + "timeout=\(max(1, min(60, Int(seconds))))\(since)")
            try #require(reply.status == 200, "\(reply.status) \(reply.text)")
            var answer = reply.json
            if isMany {
                let answers = try #require(answer["auctions"] as? [[String: Any]])
                guard let own = answers.first else { return nil }
                #expect(answers.count == 1 && own["auction_id"] as? String == auctionID)
                answer = own
            }
            let next = try #require(answer["seq"] as? Int)
            isEnded = answer["ended"] as? Bool ?? false
            feeds.append(try #require(answer["live"] as? Bool))
            let events = try #require(answer["events"] as? [[String: Any]])
            polled = try events.map {
                try Received(String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self))
            }
            if let last = polled.last?.json["seq"] as? Int { #expect(last == next) }
            if polled.isEmpty { #expect(next == cursor) }
            if polled.first?.type == "SNAPSHOT" {
                #expect(answer["complete"] as? Bool == polled[0].json["complete"] as? Bool)
            }
        }
        return polled.isEmpty ? nil : polled.removeFirst()
    }

    /// Reads until a message satisfies `condition`, and returns it.
    @discardableResult
    func until(_ condition: (Received) -> Bool) throws -> Received {
        while true {
            let message = try next()
            if condition(message) { return message }
        }
    }

    func close() {
        switch link {
        case .webSocket(let socket): socket.close()
        case .eventStream(let stream): stream.close()
        case .longPoll(let client): client.close()
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
    /// - Parameter since: where a poll began, which has no RESUMED to say so.
    func checkPromises(since: Int? = nil) throws {
        let first = try #require(messages.first)
        var cursor = since ?? first.json["since"] as? Int ?? first.sequence
        if since == nil { #expect(first.type == "SNAPSHOT" || first.type == "RESUMED") }
        for message in messages.dropFirst(since == nil ? 1 : 0) where message.sequence > 0 {
            if message.type == "RESUMED" { continue }
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
