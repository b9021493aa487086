// Incomplete input, and the protocol that interprets complete input.

import Wire

/// What a connection keeps between two receives while a head, body, frame or message is incomplete.
struct PartialInput {
    var bytes: [UInt8] = []
    var decoder = WebSocketDecoder()
    /// The request body that is being read, on the echo path.
    var body: BodyInput?

    var isEmpty: Bool { bytes.isEmpty && decoder.isBetweenMessages && body == nil }
}

/// A request whose body is being read.
struct BodyInput {
    var body: RequestBody
    let keepsAlive: Bool
    let isForHead: Bool
}

/// Interprets what connections receive. Each call handles the first item in the bytes and returns how many
/// bytes it took. It returns 0 when the item is incomplete or must wait.
protocol InputHandler: AnyObject {
    /// A proxy has named its client; the next byte is the client's.
    /// - Parameters:
    ///   - client: 4 or 16 bytes in network order; `nil` when the proxy speaks for itself.
    ///   - isSecure: true when a TLS handshake follows.
    func takeIntroduction(_ slot: UInt32, client: [UInt8]?, isSecure: Bool)
    // SAFETY: the bytes belong to the caller and are valid for the length of the call.
    func takeHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int
    func takeBody(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int
    func takeFrame(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from start: Int, _ input: inout PartialInput
    ) -> Int
}
