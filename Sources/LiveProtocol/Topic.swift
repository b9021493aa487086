// What a watcher can watch.

/// An auction, or the notifications of one user.
package struct Topic: Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Sendable {
        /// Has a state, a sequence and a log.
        case auction
        /// Has none of these. Published messages are passed on.
        case user
    }

    package let kind: Kind
    /// The auction's or the user's id.
    package let id: String

    package static func auction(_ id: String) -> Topic { Topic(kind: .auction, id: id) }
    package static func user(_ id: String) -> Topic { Topic(kind: .user, id: id) }

    private init(kind: Kind, id: String) {
        self.kind = kind
        self.id = id
    }

    /// As its Redis channel is called.
    package var description: String { kind == .auction ? "auction:\(id)" : "user:\(id)" }

    // Compares bytes, as Redis does. To Swift, `é` written as one code point and as two is the same text.
    package static func == (one: Topic, other: Topic) -> Bool {
        one.kind == other.kind && one.id.utf8.elementsEqual(other.id.utf8)
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        for byte in id.utf8 { hasher.combine(byte) }
    }
}
