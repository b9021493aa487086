// The negotiation of permessage-deflate (RFC 7692, section 7.1). No context carries over from one message to
// the next, in either direction. So one compressed event serves all clients, and a connection keeps no state.

/// What a client and this server have agreed on.
package struct MessageCompression: Equatable, Sendable {
    /// The window in which the server's messages may refer back: 9…15.
    package let serverWindowBits: UInt8
    /// True when the client asked for the limit, so that the answer must name it.
    private let namesServerWindow: Bool

    /// Chooses the first offer in a `Sec-WebSocket-Extensions` value that can be met; `nil` when there is
    /// none.
    package init?(offers bytes: Span<UInt8>, _ range: Range<Int>) {
        var rest = range
        while let offer = bytes.nextElement(of: &rest, separator: UInt8(ascii: ",")) {
            if let agreed = Self(offer: offer, bytes) {
                self = agreed
                return
            }
        }
        return nil
    }

    private init?(offer: Range<Int>, _ bytes: Span<UInt8>) {
        var rest = offer
        guard let name = bytes.nextElement(of: &rest, separator: UInt8(ascii: ";")),
            bytes.equalsIgnoringCase("permessage-deflate", name)
        else { return nil }
        var windowBits: UInt8 = 15
        var seen: Set<Parameter> = []
        while var parameter = bytes.nextElement(of: &rest, separator: UInt8(ascii: ";")) {
            let whole = parameter
            guard let key = bytes.nextElement(of: &parameter, separator: UInt8(ascii: "=")) else {
                return nil
            }
            let hasValue = whole.contains { bytes[$0] == UInt8(ascii: "=") }
            let value = hasValue ? Self.windowBits(bytes, parameter) : nil
            guard let known = Parameter(bytes, key), seen.insert(known).inserted else { return nil }
            switch known {
            case .serverNoContextTakeover, .clientNoContextTakeover: guard !hasValue else { return nil }
            case .clientMaxWindowBits: guard !hasValue || value != nil else { return nil }
            case .serverMaxWindowBits:
                // zlib cannot compress raw data with 8.
                guard let value, value >= 9 else { return nil }
                windowBits = value
            }
        }
        serverWindowBits = windowBits
        namesServerWindow = seen.contains(.serverMaxWindowBits)
    }

    /// The value of `Sec-WebSocket-Extensions` in the answer.
    package var answer: String {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            + (namesServerWindow ? "; server_max_window_bits=\(serverWindowBits)" : "")
    }

    private enum Parameter {
        case serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits

        init?(_ bytes: Span<UInt8>, _ name: Range<Int>) {
            if bytes.equalsIgnoringCase("server_no_context_takeover", name) {
                self = .serverNoContextTakeover
            } else if bytes.equalsIgnoringCase("client_no_context_takeover", name) {
                self = .clientNoContextTakeover
            } else if bytes.equalsIgnoringCase("server_max_window_bits", name) {
                self = .serverMaxWindowBits
            } else if bytes.equalsIgnoringCase("client_max_window_bits", name) {
                self = .clientMaxWindowBits
            } else {
                return nil
            }
        }
    }

    /// 8…15 without leading zeros, possibly in quotes (RFC 6455, 9.1).
    private static func windowBits(_ bytes: Span<UInt8>, _ value: Range<Int>) -> UInt8? {
        var digits = value
        if digits.count >= 2, bytes[digits.lowerBound] == UInt8(ascii: "\""),
            bytes[digits.upperBound - 1] == UInt8(ascii: "\"")
        {
            digits = digits.lowerBound + 1..<digits.upperBound - 1
        }
        guard (1...2).contains(digits.count), bytes[digits.lowerBound] != UInt8(ascii: "0") else {
            return nil
        }
        var number: UInt8 = 0
        for index in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index]) else { return nil }
            number = number * 10 + bytes[index] - UInt8(ascii: "0")
        }
        return (8...15).contains(number) ? number : nil
    }
}
