// The gateway's check of an event before it passes the bytes on untouched. It reads the type and the sequence
// number, and checks that the event is what it claims to be. Called once per published event, on the loop
// that owns the Redis link.

/// An event's position in its auction: 1 … 2⁵³−1, gapless, assigned by the database; 0 stands for "none".
package typealias SequenceNumber = UInt64

extension SequenceNumber {
    /// The largest sequence number: exact in a JavaScript number.
    package static var maximumSequence: SequenceNumber { (1 << 53) - 1 }
}

/// The types of event that are treated apart. All but ``bidUpdate`` and ``viewers`` are lossless.
package enum EventKind: UInt8, Sendable {
    case bidUpdate, timeExtended, auctionEnded, auctionStarted, auctionUpdated, viewers, other
}

/// The fields of a published event that decide its way through the gateway.
package struct EventEnvelope: Equatable, Sendable {
    /// The largest event that is accepted, in bytes.
    package static let maximumBytes = 16_384

    /// Why a message is counted and dropped instead of being delivered.
    package enum Rejection: UInt8, Error, CaseIterable, Sendable {
        case tooLarge, notUTF8, notJSONObject, duplicateMember, otherAuction, noType, badSequence

        /// The metric label.
        package var label: String {
            switch self {
            case .tooLarge: "too_large"
            case .notUTF8: "not_utf8"
            case .notJSONObject: "not_json_object"
            case .duplicateMember: "duplicate_member"
            case .otherAuction: "other_auction"
            case .noType: "no_type"
            case .badSequence: "bad_sequence"
            }
        }
    }

    package let kind: EventKind
    /// 0 when the publisher gave none: the event then has no cursor and no history.
    package let sequence: SequenceNumber
    /// Its type, without escapes and control characters.
    package let type: String
    /// Its `server_time`; `nil` when the publisher gave none, or in another form than the contract's.
    package let publishedAt: Timestamp?
    /// The trace of the bid that caused it; `nil` for most.
    package let trace: TraceContext?

    package init(
        kind: EventKind, sequence: SequenceNumber, type: String, publishedAt: Timestamp? = nil,
        trace: TraceContext? = nil
    ) {
        self.kind = kind
        self.sequence = sequence
        self.type = type
        self.publishedAt = publishedAt
        self.trace = trace
    }

    /// Checks one message.
    /// - Parameter auctionID: the auction whose channel carried the message. A message that names another
    ///   auction is refused. `nil` for a channel that belongs to no auction.
    package static func scan(
        _ bytes: Span<UInt8>, auctionID: String?
    ) -> Result<EventEnvelope, Rejection> {
        guard bytes.count <= maximumBytes else { return .failure(.tooLarge) }
        guard isUTF8(bytes) else { return .failure(.notUTF8) }
        var kind: EventKind?
        var type = ""
        var sequence: SequenceNumber = 0
        var publishedAt: Timestamp?
        var trace: TraceContext?
        var scanner = JSONScanner()
        do throws(JSONScanner.Failure) {
            while let member = try scanner.next(in: bytes) {
                if bytes.isKey("type", of: member), member.kind == .string, !member.value.isEmpty {
                    guard let text = typeText(bytes, member) else { return .failure(.noType) }
                    kind = Self.kind(of: text)
                    type = text
                } else if bytes.isKey("seq", of: member), member.kind != .null {
                    guard member.kind == .number, let number = bytes.decimal(in: member.value),
                        (1...SequenceNumber.maximumSequence).contains(number)
                    else { return .failure(.badSequence) }
                    sequence = number
                } else if bytes.isKey("server_time", of: member), member.kind == .string {
                    publishedAt = Timestamp(bytes, in: member.value)
                } else if bytes.isKey("traceparent", of: member), member.kind == .string {
                    trace = typeText(bytes, member).flatMap { TraceContext($0) }
                } else if let auctionID, bytes.isKey("auction_id", of: member) {
                    guard member.kind == .string,
                        bytes.matches(auctionID, in: member.value, isEscaped: member.isValueEscaped)
                    else { return .failure(.otherAuction) }
                }
            }
        } catch {
            return .failure(error == .duplicateMember ? .duplicateMember : .notJSONObject)
        }
        guard let kind else { return .failure(.noType) }
        return .success(
            EventEnvelope(
                kind: kind, sequence: sequence, type: type, publishedAt: publishedAt, trace: trace))
    }

    /// Whether `bytes` are well-formed UTF-8 (no surrogates, no overlong forms).
    package static func isUTF8(_ bytes: Span<UInt8>) -> Bool {
        do {
            _ = try UTF8Span(validating: bytes)
            return true
        } catch {
            return false
        }
    }

    /// `nil` for a type that an event stream could not name: one with control characters, or no text.
    private static func typeText(_ bytes: Span<UInt8>, _ member: JSONScanner.Member) -> String? {
        var plain: [UInt8] = []
        if member.isValueEscaped {
            plain = bytes.unescaped(member.value)
        } else {
            for index in member.value { plain.append(bytes[index]) }
        }
        guard plain.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
        return String(validating: plain, as: UTF8.self)
    }

    private static func kind(of type: String) -> EventKind {
        switch type {
        case "BID_UPDATE": .bidUpdate
        case "TIME_EXTENDED": .timeExtended
        case "AUCTION_ENDED": .auctionEnded
        case "AUCTION_STARTED": .auctionStarted
        case "AUCTION_UPDATED": .auctionUpdated
        case "VIEWERS": .viewers
        default: .other
        }
    }
}
