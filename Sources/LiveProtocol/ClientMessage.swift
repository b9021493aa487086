// What a WebSocket client may say to the gateway.

package import AuctionEvents

package struct ClientMessage {
    package enum Kind {
        case ping, subscribe, unsubscribe, other
    }

    package static let auctionIDRule = "an auction id is 1 to 64 characters of A-Z a-z 0-9 _ -"

    package private(set) var kind = Kind.other
    /// As sent; `nil` when absent or no string.
    package private(set) var auctionID: String?
    package private(set) var since = Cursor.none
    /// The JSON value of `t`, as it was sent.
    package private(set) var echo: ArraySlice<UInt8>?

    /// - Throws: when `bytes` are no JSON object.
    package init(_ bytes: [UInt8]) throws(JSONScanner.Failure) {
        var scanner = JSONScanner()
        while let member = try scanner.next(in: bytes.span) {
            let isString = member.kind == .string
            func text() -> String {
                let value =
                    member.isValueEscaped ? bytes.span.unescaped(member.value) : Array(bytes[member.value])
                return String(decoding: value, as: UTF8.self)
            }
            if bytes.span.isKey("type", of: member), isString {
                kind = Self.kind(text())
            } else if bytes.span.isKey("t", of: member) {
                echo =
                    isString
                    ? bytes[member.value.lowerBound - 1...member.value.upperBound] : bytes[member.value]
            } else if bytes.span.isKey("auction_id", of: member), isString {
                auctionID = text()
            } else if bytes.span.isKey("since", of: member), member.kind != .null {
                since =
                    member.kind == .number
                    ? Cursor(String(decoding: bytes[member.value], as: UTF8.self)) : .malformed
            }
        }
    }

    private static func kind(_ type: String) -> Kind {
        switch type {
        case "PING": .ping
        case "SUBSCRIBE": .subscribe
        case "UNSUBSCRIBE": .unsubscribe
        default: .other
        }
    }
}
