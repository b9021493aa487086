// Input that is not complete, and who interprets input that is.

import Wire

/// What is kept of a connection between two receives, when a head, body, frame or message is incomplete.
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

/// Interprets what connections receive. Each call handles the one thing at the beginning of the bytes and
/// returns how many bytes it took: 0 when it is not complete, or must wait.
protocol InputHandler: AnyObject {
    // SAFETY: the bytes belong to the caller and are valid for the length of the call.
    func takeHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int
    func takeBody(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, _ input: inout PartialInput) -> Int
    func takeFrame(
        _ slot: UInt32, _ bytes: UnsafeMutableRawBufferPointer, from start: Int, _ input: inout PartialInput
    ) -> Int
}
