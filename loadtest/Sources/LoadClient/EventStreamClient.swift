// A blocking client of server-sent events that shows every event with its id, and the comments and retries in
// between.

import Foundation
package import TransportSecurity

package final class EventStreamClient {
    package struct Event: Equatable, Sendable {
        package var type = ""
        package var data = ""
        package var id: String?
        /// Milliseconds, where the server told when to come back.
        package var retry: Int?
        /// Nothing but comments.
        package var isComment = false
    }

    /// The response's head; its body is read as events.
    package let reply: HTTPReply
    private let socket: BlockingSocket
    private var received: [UInt8]

    package init(
        port: Int, path: String, tls: TLSClientContext? = nil, fields: [String: String] = [:],
        receiveBufferBytes: Int? = nil
    ) throws(SocketFailure) {
        socket = try BlockingSocket(port: port, tls: tls, receiveBufferBytes: receiveBufferBytes)
        var all = ["Host": "127.0.0.1:\(port)", "Accept": "text/event-stream"]
        all.merge(fields) { $1 }
        let head = "GET \(path) HTTP/1.1\r\n" + all.map { "\($0): \($1)\r\n" }.joined() + "\r\n"
        try socket.send(Array(head.utf8))
        (reply, received) = try HTTPClient.readHead(socket, timeoutMilliseconds: 15_000)
    }

    package func close() {
        socket.close()
    }

    /// The next event or comment; `nil` when none comes within `milliseconds`. Throws at the stream's end.
    package func next(milliseconds: Int = 10_000) throws(SocketFailure) -> Event? {
        while true {
            if let end = received.firstRange(of: [0x0A, 0x0A]) {
                let text = String(decoding: received[..<end.lowerBound], as: UTF8.self)
                received.removeFirst(end.upperBound)
                return Self.parse(text)
            }
            guard let bytes = try socket.receive(milliseconds: milliseconds) else { return nil }
            guard !bytes.isEmpty else { throw SocketFailure(description: "the stream ended") }
            received += bytes
        }
    }

    private static func parse(_ text: String) -> Event {
        var event = Event()
        event.isComment = true
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) where !line.hasPrefix(":") {
            event.isComment = false
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let value =
                parts.count == 2 ? String(parts[1].hasPrefix(" ") ? parts[1].dropFirst() : parts[1]) : ""
            switch parts[0] {
            case "event": event.type = value
            case "data": event.data += (event.data.isEmpty ? "" : "\n") + value
            case "id": event.id = value
            case "retry": event.retry = Int(value)
            default: break
            }
        }
        return event
    }
}
