// The answer to a WebSocket handshake (RFC 6455, section 4.2; RFC 7692), made from the request's head.

import COpenSSL
import LiveProtocol
import Wire

struct WebSocketUpgrade {
    let answer: [UInt8]
    /// The window, in bits, that messages to the client may be compressed with; 0 when they may not.
    let deflateBits: UInt8

    /// - Throws: what is wrong with the handshake.
    init(_ head: RequestHead, _ bytes: Span<UInt8>, deflates: Bool) throws(LiveRefusal) {
        guard bytes.text(head.webSocketVersion) == "13" else {
            throw LiveRefusal(
                .upgradeRequired, "UPGRADE_REQUIRED", "only WebSocket version 13 is supported",
                fields: [("Sec-WebSocket-Version", "13")])
        }
        guard head.method == .get, WebSocketHandshake.isValidKey(bytes, head.webSocketKey) else {
            throw LiveRefusal(.badRequest, "BAD_REQUEST", "Sec-WebSocket-Key is missing or malformed")
        }
        let key = WebSocketHandshake.acceptKey(for: bytes.text(head.webSocketKey), sha1: Self.sha1)
        var compression: MessageCompression?
        if deflates, !head.webSocketExtensions.isEmpty {
            compression = MessageCompression(offers: bytes, head.webSocketExtensions.range)
        }
        deflateBits = compression?.serverWindowBits ?? 0
        answer = WebSocketHandshake.response(acceptKey: key, extensions: compression?.answer)
    }

    private static func sha1(_ input: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
        SHA1(input, input.count, &digest)
        return digest
    }
}
