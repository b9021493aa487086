// Server-sent events (WHATWG HTML, 9.2): the response head, events, and the comments that keep a connection
// alive. The body is delimited by the connection's end, on HTTP/1.0 and 1.1 alike, so that an event's bytes
// are the same for all.

package enum ServerSentEvent {
    package static let mediaType = "text/event-stream"
    /// A comment: clients ignore it, and proxies see that the connection lives.
    package static let heartbeat = Array(":\n\n".utf8)

    /// The response head and the first `retry:`.
    /// - Parameters:
    ///   - retryMilliseconds: how long a browser waits before it comes back.
    ///   - date: the present time, from ``HTTPDate``.
    package static func head(
        fields: HTTPFields, retryMilliseconds: Int, date: String
    ) -> [UInt8] {
        var text = """
            HTTP/1.1 200 OK\r
            Date: \(date)\r
            Content-Type: \(mediaType)\r
            Cache-Control: no-store\r
            X-Accel-Buffering: no\r
            Connection: close\r

            """
        for field in fields { text += "\(field.name): \(field.value)\r\n" }
        return Array((text + "\r\n").utf8) + retry(retryMilliseconds)
    }

    package static func retry(_ milliseconds: Int) -> [UInt8] {
        Array("retry: \(milliseconds)\n\n".utf8)
    }

    /// An event. JSON may only have line ends between its tokens, so they become blanks.
    /// - Parameters:
    ///   - type: must have no line end.
    ///   - id: the cursor of a client that has applied it; `nil` leaves the client's as it was.
    package static func encode(type: String, json: some Collection<UInt8>, id: String?) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(type.utf8.count + json.count + (id?.utf8.count ?? 0) + 24)
        output.append(contentsOf: "event: ".utf8)
        output.append(contentsOf: type.utf8)
        output.append(contentsOf: "\ndata: ".utf8)
        let start = output.count
        output.append(contentsOf: json)
        for index in start..<output.count where output[index] == 0x0A || output[index] == 0x0D {
            output[index] = 0x20
        }
        if let id {
            output.append(contentsOf: "\nid: ".utf8)
            output.append(contentsOf: id.utf8)
        }
        output.append(contentsOf: "\n\n".utf8)
        return output
    }
}
