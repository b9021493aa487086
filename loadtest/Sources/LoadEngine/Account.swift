// One watcher's account of what it applied, in a few words of memory, and its reconciliation with the
// publisher's truth. Bids may be merged, so their content is compared as it arrives; lossless events may not,
// so a hash chain over them must come out as the publisher's.

/// Part of a watch between two declared jumps: everything after `base` up to `last`.
package struct Segment: Equatable, Codable, Sendable {
    package var base: UInt64 = 0
    package var last: UInt64 = 0
    /// Over the lossless events.
    package var chain: UInt64 = 0
    package var applied: UInt32 = 0
    /// Events that a newer one was declared to stand for.
    package var merged: UInt32 = 0
}

/// What a watcher saw that it must not.
package enum Fault: String, Codable, Sendable {
    case seenTwice = "an event came twice, or out of order"
    case undeclaredJump = "a jump in seq that nothing declared"
    case overlap = "from_seq reaches back to events seen before"
    case noFirstMessage = "an event came before SNAPSHOT or RESUMED"
    case wrongResume = "RESUMED at another cursor than the one given"
    case contentDiffers = "an event's content is not what was published"
    case countDiffers = "events applied and merged do not add up to the move of seq"
    case chainDiffers = "lossless events are not exactly the published ones"
    case beyondTruth = "an event that nobody published"
    case lost = "the watch does not reach the last event"
}

package struct Account: Sendable {
    package private(set) var segment = Segment()
    /// Whether the watch has a place in the order.
    package private(set) var isKnown = false

    package init() {}

    package var cursor: UInt64? { isKnown ? segment.last : nil }

    package enum Entry: Equatable {
        case applied
        /// It concerns no order.
        case passed
        /// The watch went on at another place, as declared; `closed` is over.
        case jumped(closed: Segment)
        case fault(Fault)
    }

    /// Notes a message.
    /// - Parameter isBare: whether the server sends no first message, so that the first event begins the
    ///   account.
    package mutating func take(_ message: ScannedMessage, isBare: Bool = false) -> Entry {
        switch message.kind {
        case .other, .viewers: return .passed
        case .snapshot:
            let closed = segment
            let wasKnown = isKnown
            isKnown = true
            segment = Segment(base: message.sequence, last: message.sequence)
            return wasKnown ? .jumped(closed: closed) : .passed
        case .resumed:
            let isRight = !isKnown || message.since == segment.last
            if !isKnown { segment = Segment(base: message.since, last: message.since) }
            isKnown = true
            return isRight ? .passed : .fault(.wrongResume)
        case .bid, .lossless: return apply(message, isBare: isBare)
        }
    }

    private mutating func apply(_ message: ScannedMessage, isBare: Bool) -> Entry {
        if !isKnown, isBare {
            isKnown = true
            segment = Segment(base: message.first - 1, last: message.first - 1)
        }
        guard isKnown else { return .fault(.noFirstMessage) }
        guard message.sequence > segment.last else { return .fault(.seenTwice) }
        let expected = segment.last + 1
        segment.applied &+= 1
        segment.merged &+= UInt32(truncatingIfNeeded: message.sequence - message.first)
        segment.last = message.sequence
        if message.kind == .lossless { segment.chain = ContentHash.chained(segment.chain, message.hash) }
        if message.first > expected { return .fault(.undeclaredJump) }
        return message.first < expected ? .fault(.overlap) : .applied
    }
}

/// What was published on one auction, in order; the first event has sequence number 1.
package struct AuctionTruth: Codable, Sendable {
    package private(set) var hashes: [UInt64] = []
    package private(set) var isLossless: [Bool] = []

    package init() {}

    package var last: UInt64 { UInt64(hashes.count) }

    package mutating func append(hash: UInt64, isLossless: Bool) {
        hashes.append(hash)
        self.isLossless.append(isLossless)
    }

    /// The chain over the lossless events after `base` up to `last`.
    package func chain(from base: UInt64, to last: UInt64) -> UInt64 {
        var chain: UInt64 = 0
        for index in Int(base)..<Int(last) where isLossless[index] {
            chain = ContentHash.chained(chain, hashes[index])
        }
        return chain
    }
}

/// Compares segments with the truth of one auction. Watchers that share a beginning and an end share the
/// work.
package struct Reconciliation {
    private struct Span: Hashable {
        let base: UInt64
        let last: UInt64
    }

    private let truth: AuctionTruth
    private var chains: [Span: UInt64] = [:]

    package init(_ truth: AuctionTruth) {
        self.truth = truth
    }

    /// - Parameter mustReachEnd: whether the watch was to be at the last event.
    package mutating func check(_ segment: Segment, mustReachEnd: Bool) -> Fault? {
        guard segment.base <= segment.last, segment.last <= truth.last else { return .beyondTruth }
        guard UInt64(segment.applied) + UInt64(segment.merged) == segment.last - segment.base else {
            return .countDiffers
        }
        let span = Span(base: segment.base, last: segment.last)
        let chain = chains[span] ?? truth.chain(from: span.base, to: span.last)
        chains[span] = chain
        guard chain == segment.chain else { return .chainDiffers }
        return mustReachEnd && segment.last < truth.last ? .lost : nil
    }
}
