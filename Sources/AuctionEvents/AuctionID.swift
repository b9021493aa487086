// The name of an auction, as it stands in addresses, channel names and events. Both services and the load
// generator check ids with this one rule, so that nothing but these characters ever reaches a Redis key or a
// log line.

/// An auction's id: 1–64 characters of `A-Z a-z 0-9 _ -`.
package struct AuctionID: Hashable, Sendable, CustomStringConvertible {
    /// The most characters an id may have.
    package static let maximumLength = 64
    /// Ids that begin so are private: watching them always needs a token.
    package static let privatePrefix = "prv_"

    package let text: String

    /// `nil` when `text` is no valid id.
    package init?(_ text: some StringProtocol) {
        guard (1...Self.maximumLength).contains(text.utf8.count), text.utf8.allSatisfy(Self.allows) else {
            return nil
        }
        self.text = String(text)
    }

    package var description: String { text }
    package var isPrivate: Bool { text.hasPrefix(Self.privatePrefix) }

    /// A fresh id: `prefix` and 16 characters (80 bits) of the system's randomness.
    package static func random(prefix: String) -> AuctionID {
        let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz".utf8)
        var tail: [UInt8] = []
        // Two draws are two system calls; five bits make a character.
        for _ in 0..<2 {
            var bits = UInt64.random(in: 0...UInt64.max)
            for _ in 0..<8 {
                tail.append(alphabet[Int(bits & 31)])
                bits >>= 5
            }
        }
        guard let id = AuctionID(prefix + String(decoding: tail, as: UTF8.self)) else {
            preconditionFailure("prefix \(prefix) is no id")
        }
        return id
    }

    private static func allows(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
