// The server's half of the WebSocket opening handshake (RFC 6455, section 4.2).

package enum WebSocketHandshake {
    /// The SHA-1 function the accept key needs. A parameter because this module links no cryptography.
    package typealias Digest = (_ input: [UInt8]) -> [UInt8]

    /// Whether the head's key is the base64 form of 16 bytes.
    package static func isValidKey(_ bytes: Span<UInt8>, _ key: HeadRange) -> Bool {
        guard key.range.count == 24 else { return false }
        for (offset, index) in key.range.enumerated() {
            let byte = bytes[index]
            if offset >= 22 {
                guard byte == UInt8(ascii: "=") else { return false }
            } else {
                guard Base64.alphabet.contains(byte) else { return false }
            }
        }
        return true
    }

    /// `Sec-WebSocket-Accept` for `key` (RFC 6455, 4.2.2, step 5.4).
    package static func acceptKey(for key: String, sha1: Digest) -> String {
        Base64.encode(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// The 101 response.
    /// - Parameter extensions: the value of `Sec-WebSocket-Extensions`, where some were agreed on.
    package static func response(acceptKey: String, extensions: String? = nil) -> [UInt8] {
        Array(
            """
            HTTP/1.1 101 Switching Protocols\r
            Upgrade: websocket\r
            Connection: Upgrade\r
            Sec-WebSocket-Accept: \(acceptKey)\r
            \(extensions.map { "Sec-WebSocket-Extensions: \($0)\r\n" } ?? "")\r

            """.utf8)
    }
}

/// RFC 4648 base64 with padding; only as much as the handshake needs.
enum Base64 {
    static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var output: [UInt8] = []
        output.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var bits: UInt32 = 0
            for index in 0..<3 { bits = bits << 8 | UInt32(index < group.count ? group[start + index] : 0) }
            for index in 0..<4 {
                let digit = alphabet[Int(bits >> UInt32(18 - 6 * index) & 63)]
                output.append(index <= group.count ? digit : UInt8(ascii: "="))
            }
        }
        return String(decoding: output, as: UTF8.self)
    }
}
