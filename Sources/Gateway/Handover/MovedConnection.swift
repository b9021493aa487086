// A connection on its way from one gateway process to the next. It is a value: what the new process needs to
// go on as if nothing had happened. Whoever holds it owns the descriptor.

import Fanout
import LiveProtocol
import Tokens
import Wire

struct MovedConnection: Sendable {
    /// A watch and where its client stands.
    struct Watch: Sendable {
        let topic: Topic
        /// The last event that the client has been sent, or will be with ``MovedConnection/output``.
        let cursor: UInt64
        /// True when the client was told that the auction's Redis does not deliver.
        let knowsSilence: Bool
    }

    enum Activity: Sendable {
        /// Between two requests, or in the middle of a request's head.
        case requests(isIdle: Bool)
        case watch(Watch)
        /// In the order of the client's request.
        case many([Watch], Access)
    }

    let descriptor: Int32
    /// ``Transport/http``, ``Transport/webSocket`` or ``Transport/eventStream``.
    let transport: Transport
    let activity: Activity
    /// The window, in bits, that messages to the client may be compressed with; 0 for none.
    let deflateBits: UInt8
    /// Seconds between heartbeats that the client asked for; 0 when it did not.
    let heartbeatSeconds: UInt8
    /// In how many seconds the client's token expires; `nil` without one.
    let expirySeconds: Int?
    /// The address that the connection counts against, where addresses are limited.
    let address: String?
    /// Received bytes that make no whole head or frame yet.
    let input: [UInt8]
    /// The message that has arrived in part.
    let message: WebSocketDecoder.Unfinished?
    /// Bytes that the socket has not taken. The first may be the rest of a frame.
    let output: [UInt8]

    /// About how many bytes it takes to send.
    var weight: Int { 256 + input.count + output.count + (message?.bytes.count ?? 0) }
}

// MARK: Coding

extension MovedConnection {
    /// Writes everything but the descriptor, which travels by itself.
    func write(to writer: inout HandoverWriter) {
        writer.write(transport.rawValue)
        switch activity {
        case .requests(let isIdle):
            writer.write(0)
            writer.write(isIdle)
        case .watch(let watch):
            writer.write(1)
            watch.write(to: &writer)
        case .many(let watches, let access):
            writer.write(2)
            writer.write(watches) { writer, watch in watch.write(to: &writer) }
            access.write(to: &writer)
        }
        writer.write(deflateBits)
        writer.write(heartbeatSeconds)
        writer.write(expirySeconds) { $0.write($1) }
        writer.write(address) { $0.write($1) }
        writer.write(input)
        writer.write(message) { writer, message in message.write(to: &writer) }
        writer.write(output)
    }

    init(descriptor: Int32, from reader: inout HandoverReader) throws(HandoverMalformed) {
        self.descriptor = descriptor
        guard let transport = Transport(rawValue: try reader.number(as: UInt8.self)) else {
            throw HandoverMalformed()
        }
        self.transport = transport
        switch try reader.number() {
        case 0: activity = .requests(isIdle: try reader.flag())
        case 1: activity = .watch(try Watch(from: &reader))
        case 2:
            let watches = try reader.list { reader throws(HandoverMalformed) in try Watch(from: &reader) }
            activity = .many(watches, try Access(from: &reader))
        default: throw HandoverMalformed()
        }
        switch (transport, activity) {
        case (.http, .requests), (.webSocket, .watch), (.webSocket, .many), (.eventStream, .watch),
            (.eventStream, .many):
            break
        default: throw HandoverMalformed()
        }
        deflateBits = try reader.number(as: UInt8.self)
        heartbeatSeconds = try reader.number(as: UInt8.self)
        expirySeconds = try reader.optional { reader throws(HandoverMalformed) in
            try reader.number(as: Int.self)
        }
        address = try reader.optional { reader throws(HandoverMalformed) in try reader.text() }
        input = try reader.bytes()
        message = try reader.optional { reader throws(HandoverMalformed) in
            try WebSocketDecoder.Unfinished(from: &reader)
        }
        output = try reader.bytes()
    }
}

extension MovedConnection.Watch {
    fileprivate func write(to writer: inout HandoverWriter) {
        topic.write(to: &writer)
        writer.write(cursor)
        writer.write(knowsSilence)
    }

    fileprivate init(from reader: inout HandoverReader) throws(HandoverMalformed) {
        topic = try Topic(from: &reader)
        cursor = try reader.number()
        knowsSilence = try reader.flag()
    }
}

extension Topic {
    func write(to writer: inout HandoverWriter) {
        writer.write(kind == .auction)
        writer.write(id)
    }

    init(from reader: inout HandoverReader) throws(HandoverMalformed) {
        let isAuction = try reader.flag()
        let id = try reader.text()
        self = isAuction ? .auction(id) : .user(id)
    }
}

extension Access {
    fileprivate func write(to writer: inout HandoverWriter) {
        guard case .bearer(let token) = self else { return writer.write(false) }
        writer.write(true)
        writer.write(token.subject)
        writer.write(token.expiresAt)
        writer.write(token.audience) { $0.write($1) }
        switch token.auctions {
        case .none: writer.write(0)
        case .listed(let ids):
            writer.write(1)
            writer.write(Array(ids)) { $0.write($1) }
        case .all: writer.write(2)
        }
    }

    fileprivate init(from reader: inout HandoverReader) throws(HandoverMalformed) {
        guard try reader.flag() else {
            self = .anonymous
            return
        }
        let subject = try reader.text()
        let expiresAt = try reader.number(as: Int.self)
        let audience = try reader.optional { reader throws(HandoverMalformed) in try reader.text() }
        let auctions: AccessToken.Auctions
        switch try reader.number() {
        case 0: auctions = .none
        case 1:
            let ids = try reader.list { reader throws(HandoverMalformed) in try reader.text() }
            auctions = .listed(Set(ids))
        case 2: auctions = .all
        default: throw HandoverMalformed()
        }
        self = .bearer(
            AccessToken(subject: subject, expiresAt: expiresAt, audience: audience, auctions: auctions))
    }
}

extension WebSocketDecoder.Unfinished {
    fileprivate func write(to writer: inout HandoverWriter) {
        writer.write(kind.isText)
        writer.write(isCompressed)
        writer.write(bytes)
        writer.write(frame) { writer, frame in
            writer.write(frame.isFinal)
            writer.write(frame.remaining)
            writer.write(frame.key)
        }
    }

    fileprivate init(from reader: inout HandoverReader) throws(HandoverMalformed) {
        let isText = try reader.flag()
        let isCompressed = try reader.flag()
        let bytes = try reader.bytes()
        let frame = try reader.optional { reader throws(HandoverMalformed) in
            WebSocketDecoder.Unfinished.Frame(
                isFinal: try reader.flag(), remaining: try reader.number(as: Int.self),
                key: try reader.number(as: UInt32.self))
        }
        self.init(
            kind: isCompressed ? .compressed(isText: isText) : isText ? .text : .binary, bytes: bytes,
            frame: frame)
    }
}
