// What a WebSocket client may say to the gateway.

import AuctionEvents

/// Where a client wants to go on from.
enum Cursor: Equatable {
    case none
    case at(UInt64)
    case malformed

    static let rule = "since is a sequence number from 0 to 2^53-1"

    init(_ text: String) {
        guard (1...16).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(text), number <= .maximumSequence
        else {
            self = .malformed
            return
        }
        self = .at(number)
    }
}

struct ClientMessage {
    enum Kind {
        case ping, subscribe, unsubscribe, other
    }

    static let auctionIDRule = "an auction id is 1 to 64 characters of A-Z a-z 0-9 _ -"

    private(set) var kind = Kind.other
    /// As sent; `nil` when absent or no string.
    private(set) var auctionID: String?
    private(set) var since = Cursor.none
    /// The JSON value of `t`, as it was sent.
    private(set) var echo: ArraySlice<UInt8>?

    /// - Throws: when `bytes` are no JSON object.
    init(_ bytes: [UInt8]) throws(JSONScanner.Failure) {
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
