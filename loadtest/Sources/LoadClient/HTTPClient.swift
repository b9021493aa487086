// A small HTTP/1.1 client over one kept-alive connection: enough for JSON calls and for looking at answers
// closely.

import Foundation
package import TransportSecurity

package struct HTTPReply: Sendable {
    package let status: Int
    /// Names in lower case.
    package let fields: [String: String]
    package let body: [UInt8]

    package var text: String { String(decoding: body, as: UTF8.self) }

    /// The body as a JSON object; empty when it is none.
    package var json: [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
    }
}

package final class HTTPClient {
    private let port: Int
    private let tls: TLSClientContext?
    private let timeoutMilliseconds: Int
    private var socket: BlockingSocket?

    package init(port: Int, tls: TLSClientContext? = nil, timeoutMilliseconds: Int = 10_000) {
        self.port = port
        self.tls = tls
        self.timeoutMilliseconds = timeoutMilliseconds
    }

    package func close() {
        socket?.close()
        socket = nil
    }

    /// Sends one request and reads its answer; connects anew where the server closed meanwhile.
    package func request(
        _ method: String, _ path: String, token: String? = nil, fields: [String: String] = [:],
        json: String? = nil
    ) throws(SocketFailure) -> HTTPReply {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n"
        if let token { head += "Authorization: Bearer \(token)\r\n" }
        for (name, value) in fields { head += "\(name): \(value)\r\n" }
        if let json { head += "Content-Type: application/json\r\nContent-Length: \(json.utf8.count)\r\n" }
        let bytes = Array((head + "\r\n" + (json ?? "")).utf8)
        if let socket {
            do throws(SocketFailure) {
                try socket.send(bytes)
                return try reply(socket, isHead: method == "HEAD")
            } catch {
                // A kept-alive connection may be closed at any time; anything else fails again below.
                self.socket = nil
                guard method == "GET" else { throw error }
            }
        }
        let socket = try BlockingSocket(port: port, tls: tls)
        self.socket = socket
        try socket.send(bytes)
        return try reply(socket, isHead: method == "HEAD")
    }

    private func reply(_ socket: BlockingSocket, isHead: Bool) throws(SocketFailure) -> HTTPReply {
        let (reply, isLast) = try Self.readReply(
            socket, isHead: isHead, timeoutMilliseconds: timeoutMilliseconds)
        if isLast { self.socket = nil }
        return reply
    }

    /// Reads one answer with a Content-Length or up to the connection's end.
    package static func readReply(
        _ socket: BlockingSocket, isHead: Bool = false, timeoutMilliseconds: Int = 10_000
    ) throws(SocketFailure) -> (reply: HTTPReply, isLast: Bool) {
        let (head, rest) = try readHead(socket, timeoutMilliseconds: timeoutMilliseconds)
        var body = rest
        let isLast = head.fields["connection"]?.lowercased() == "close"
        if isHead || [204, 304].contains(head.status) || head.status < 200 { return (head, isLast) }
        let length = head.fields["content-length"].flatMap { Int($0) }
        while body.count < length ?? .max {
            guard let bytes = try socket.receive(milliseconds: timeoutMilliseconds) else {
                throw SocketFailure(description: "no answer within \(timeoutMilliseconds) ms")
            }
            guard !bytes.isEmpty else {
                guard length == nil else { throw SocketFailure(description: "the answer was cut short") }
                break
            }
            body += bytes
        }
        let reply = HTTPReply(
            status: head.status, fields: head.fields, body: Array(body.prefix(length ?? .max)))
        return (reply, isLast || length == nil)
    }

    /// Reads an answer's head; also returns what came behind it.
    package static func readHead(
        _ socket: BlockingSocket, timeoutMilliseconds: Int
    ) throws(SocketFailure) -> (head: HTTPReply, rest: [UInt8]) {
        var received: [UInt8] = []
        while true {
            guard let bytes = try socket.receive(milliseconds: timeoutMilliseconds) else {
                throw SocketFailure(description: "no answer within \(timeoutMilliseconds) ms")
            }
            guard !bytes.isEmpty else {
                throw SocketFailure(description: "the connection closed before an answer")
            }
            received += bytes
            guard let end = headEnd(received) else { continue }
            let lines = received[..<end].split { $0 == 0x0D || $0 == 0x0A }
            let status = lines[0].split(separator: 0x20).dropFirst().first.flatMap {
                Int(String(decoding: $0, as: UTF8.self))
            }
            var fields: [String: String] = [:]
            for line in lines.dropFirst() {
                guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
                let value = line[(colon + 1)...].drop { $0 == 0x20 || $0 == 0x09 }
                let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
                fields[name] = String(decoding: value, as: UTF8.self)
            }
            return (HTTPReply(status: status ?? 0, fields: fields, body: []), Array(received[end...]))
        }
    }

    /// Where the empty line ends.
    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 3..<bytes.count
        where bytes[index] == 0x0A && bytes[index - 1] == 0x0D && bytes[index - 2] == 0x0A
            && bytes[index - 3] == 0x0D
        {
            return index + 1
        }
        return nil
    }
}
