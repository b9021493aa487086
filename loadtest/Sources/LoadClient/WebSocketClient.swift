// A blocking WebSocket client that shows everything it receives, control frames included, and can send frames
// that no well-behaved client would.

import Compression
import Foundation
package import TransportSecurity

package final class WebSocketClient {
    package enum Message: Equatable, Sendable {
        case text(String)
        case binary([UInt8])
        case ping([UInt8])
        case pong([UInt8])
        case close(code: UInt16?, reason: String)
        /// The TCP connection ended.
        case end
    }

    /// The answer to the handshake.
    package let handshake: HTTPReply
    private let socket: BlockingSocket
    private var received: [UInt8]
    private let inflater = MessageInflater()
    /// How many came compressed.
    package private(set) var compressedMessages = 0

    /// Connects and sends the handshake; `handshake.status` tells whether it was accepted.
    /// - Parameter firstFrames: bytes sent in the same write as the handshake.
    package init(
        port: Int, path: String, tls: TLSClientContext? = nil, fields: [String: String] = [:],
        firstFrames: [UInt8] = [], receiveBufferBytes: Int? = nil
    ) throws(SocketFailure) {
        socket = try BlockingSocket(port: port, tls: tls, receiveBufferBytes: receiveBufferBytes)
        var all = [
            "Host": "127.0.0.1:\(port)", "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
        ]
        all.merge(fields) { $1 }
        let head = "GET \(path) HTTP/1.1\r\n" + all.map { "\($0): \($1)\r\n" }.joined() + "\r\n"
        try socket.send(Array(head.utf8) + firstFrames)
        let (answer, rest) = try HTTPClient.readHead(socket, timeoutMilliseconds: 10_000)
        handshake = HTTPReply(status: answer.status, fields: answer.fields, body: rest)
        received = rest
    }

    package func close() {
        socket.close()
    }

    /// The next message; `nil` when none comes within `milliseconds`. Fragmented messages are not expected of
    /// a server.
    package func next(milliseconds: Int = 10_000) throws(SocketFailure) -> Message? {
        while true {
            if let message = takeFrame() { return message }
            guard let bytes = try socket.receive(milliseconds: milliseconds) else { return nil }
            if bytes.isEmpty { return .end }
            received += bytes
        }
    }

    private func takeFrame() -> Message? {
        guard received.count >= 2 else { return nil }
        var count = Int(received[1] & 0x7F)
        var header = 2
        if count >= 126 {
            let extended = count == 126 ? 2 : 8
            guard received.count >= 2 + extended else { return nil }
            count = received[2..<2 + extended].reduce(0) { $0 << 8 | Int($1) }
            header += extended
        }
        guard received.count >= header + count else { return nil }
        let opcode = received[0] & 0x0F
        var payload = Array(received[header..<header + count])
        if received[0] & 0x40 != 0 {
            compressedMessages += 1
            guard case .message(let message) = inflater.expand(payload, maximumBytes: 1 << 25) else {
                return .binary(payload)
            }
            payload = message
        }
        received.removeFirst(header + count)
        switch opcode {
        case 0x1: return .text(String(decoding: payload, as: UTF8.self))
        case 0x8:
            let code = payload.count >= 2 ? UInt16(payload[0]) << 8 | UInt16(payload[1]) : nil
            return .close(code: code, reason: String(decoding: payload.dropFirst(2), as: UTF8.self))
        case 0x9: return .ping(payload)
        case 0xA: return .pong(payload)
        default: return .binary(payload)
        }
    }

    // MARK: Sending

    package func send(text: String) throws(SocketFailure) {
        try send(Self.frame(0x1, Array(text.utf8)))
    }

    package func send(_ bytes: [UInt8]) throws(SocketFailure) {
        try socket.send(bytes)
    }

    /// A client's frame. `isMasked: false` and odd `first` bytes are for tests of the server's strictness.
    package static func frame(
        _ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, isMasked: Bool = true, reserved: UInt8 = 0
    ) -> [UInt8] {
        var frame: [UInt8] = [(isFinal ? 0x80 : 0) | reserved | opcode]
        let mask: UInt8 = isMasked ? 0x80 : 0
        switch payload.count {
        case ..<126: frame.append(mask | UInt8(payload.count))
        case ..<65_536: frame += [mask | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default:
            frame.append(mask | 127)
            for shift in stride(from: 56, through: 0, by: -8) {
                frame.append(UInt8(payload.count >> shift & 0xFF))
            }
        }
        guard isMasked else { return frame + payload }
        let key = (0..<4).map { _ in UInt8.random(in: 0...255) }
        return frame + key + payload.enumerated().map { $1 ^ key[$0 % 4] }
    }

    /// A message's compressed form (RFC 7692).
    package static func deflate(_ message: [UInt8]) -> [UInt8] {
        MessageDeflater(windowBits: 15).compress(message)
    }

    package static func closeFrame(_ code: UInt16) -> [UInt8] {
        frame(0x8, [UInt8(code >> 8), UInt8(code & 0xFF)])
    }
}
