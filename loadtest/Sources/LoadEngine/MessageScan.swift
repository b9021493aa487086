// Reads out of a received message what a watcher's account needs: its kind, its place in the order, when it
// was due to be published, and a hash of its content. Runs once a delivery, so it searches bytes and parses
// no JSON.

import AuctionEvents
import CLinux
import Glibc

package struct ScannedMessage: Equatable {
    package enum Kind: UInt8 {
        case bid
        case lossless
        case viewers
        case snapshot
        case resumed
        /// PONG, ERROR and whatever else concerns no auction's order.
        case other
    }

    package var kind = Kind.other
    /// 0 when it has none.
    package var sequence: UInt64 = 0
    /// The first event it stands for; ``sequence`` unless it says `from_seq`.
    package var first: UInt64 = 0
    /// A RESUMED's `since`.
    package var since: UInt64 = 0
    /// A SNAPSHOT's or RESUMED's `complete`.
    package var isComplete = false
    /// Of the content as published: without `from_seq`.
    package var hash: UInt64 = 0
    /// When its publication was due, in microseconds of the wall clock; 0 when it does not say.
    package var dueMicroseconds: Int64 = 0

    package init() {}

    // SAFETY: `json` is the caller's for the length of the call; nothing is kept of it.
    /// - Parameter json: one message as received.
    package init(_ json: UnsafeRawBufferPointer) {
        guard json.count > 2 else { return }
        var body = UnsafeRawBufferPointer(rebasing: json[1...])
        if let merged = Self.number(after: #""from_seq":"#, in: body, within: 12) {
            first = merged.value
            body = UnsafeRawBufferPointer(rebasing: body[min(body.count, merged.end + 1)...])
        }
        guard let type = Self.find(#""type":""#, in: body) else { return }
        sequence = Self.number(after: #""seq":"#, in: body)?.value ?? 0
        if first == 0 { first = sequence }
        let name = UnsafeRawBufferPointer(rebasing: body[type...])
        if Self.begins(name, "BID_UPDATE\"") {
            kind = .bid
        } else if Self.begins(name, "VIEWERS\"") {
            kind = .viewers
        } else if Self.begins(name, "SNAPSHOT\"") || Self.begins(name, "RESUMED\"") {
            kind = Self.begins(name, "SNAPSHOT\"") ? .snapshot : .resumed
            isComplete = Self.find(#""complete":true"#, in: body) != nil
            since = Self.number(after: #""since":"#, in: body)?.value ?? 0
            return
        } else {
            kind = sequence > 0 ? .lossless : .other
        }
        hash = ContentHash.of(body)
        dueMicroseconds = Self.due(body)
    }

    /// Our publisher's last member, or else the event's `server_time`.
    private static func due(_ body: UnsafeRawBufferPointer) -> Int64 {
        let member: StaticString = #""due_us":"#
        // Sixteen digits and the closing brace.
        let length = member.utf8CodeUnitCount + 17
        if body.count > length {
            let tail = UnsafeRawBufferPointer(rebasing: body[(body.count - length)...])
            if begins(tail, member), let due = number(after: member, in: tail) { return Int64(due.value) }
        }
        guard let start = find(#""server_time":""#, in: body), start + Timestamp.textLength <= body.count
        else { return 0 }
        let text = String(decoding: body[start..<start + Timestamp.textLength], as: UTF8.self)
        return (Timestamp(text: text)?.milliseconds ?? 0) * 1_000
    }

    // MARK: Bytes

    /// Where `text` ends in `bytes`; `nil` when it is not there.
    static func find(_ text: StaticString, in bytes: UnsafeRawBufferPointer) -> Int? {
        guard let base = bytes.baseAddress,
            let found = memmem(base, bytes.count, text.utf8Start, text.utf8CodeUnitCount)
        else { return nil }
        return UnsafeRawPointer(found) - base + text.utf8CodeUnitCount
    }

    static func begins(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        guard let base = bytes.baseAddress, bytes.count >= text.utf8CodeUnitCount else { return false }
        return memcmp(base, text.utf8Start, text.utf8CodeUnitCount) == 0
    }

    /// The digits behind `name`, and where they end.
    /// - Parameter limit: how many bytes are searched.
    static func number(
        after name: StaticString, in bytes: UnsafeRawBufferPointer, within limit: Int = .max
    ) -> (value: UInt64, end: Int)? {
        let searched = UnsafeRawBufferPointer(rebasing: bytes[..<min(bytes.count, limit)])
        guard var index = find(name, in: searched) else { return nil }
        let start = index
        var value: UInt64 = 0
        while index < bytes.count, case let digit = bytes[index] &- UInt8(ascii: "0"), digit < 10 {
            value = value &* 10 &+ UInt64(digit)
            index += 1
        }
        return index > start ? (value, index) : nil
    }
}

/// A 64-bit hash, not for secrets: multiply and fold, eight bytes at a time.
package enum ContentHash {
    // SAFETY: `bytes` is the caller's for the length of the call.
    package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(truncatingIfNeeded: bytes.count)
        var index = 0
        while index + 8 <= bytes.count {
            hash = fold(hash ^ bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            index += 8
        }
        var rest: UInt64 = 0
        while index < bytes.count {
            rest = rest << 8 | UInt64(bytes[index])
            index += 1
        }
        // 0 marks what was never seen.
        return max(1, fold(hash ^ rest))
    }

    /// The chain that ended in `chain` with one more link.
    package static func chained(_ chain: UInt64, _ hash: UInt64) -> UInt64 {
        fold(chain ^ hash) &+ 1
    }

    private static func fold(_ value: UInt64) -> UInt64 {
        let product = value &* 0x9E37_79B9_7F4A_7C15
        return product ^ (product >> 32)
    }
}
