// What sellers may do before the first bid, and administrators until the end.

package import AuctionEvents

/// Why an auction cannot be changed.
package enum ChangeRefusal: Error, Sendable, Equatable {
    case notSeller
    case hasBids
    case ended(winner: String?)
    /// An extension that would not move the end to a later, allowed time.
    case endNotLater
    case terms(AuctionTerms.Fault)
    case schedule(AuctionSchedule.Fault)
}

extension Auction {
    /// The seller's new terms, before the first bid.
    package mutating func update(
        _ terms: AuctionTerms, _ schedule: AuctionSchedule, by userID: String, at time: Timestamp
    ) -> ChangeRefusal? {
        if let refusal = sellerRefusal(userID, at: time) { return refusal }
        if let fault = terms.fault { return .terms(fault) }
        let fault = status == .scheduled ? schedule.fault(at: time) : schedule.endFault(at: time)
        if let fault { return .schedule(fault) }
        self.terms = terms
        endsAt = schedule.endsAt
        record(.auctionUpdated(state))
        return nil
    }

    /// The seller takes the auction back, before the first bid.
    package mutating func withdraw(by userID: String, at time: Timestamp) -> ChangeRefusal? {
        if let refusal = sellerRefusal(userID, at: time) { return refusal }
        finish(as: .cancelled)
        return nil
    }

    /// An administrator ends the auction without a winner.
    package mutating func cancel(at time: Timestamp) -> ChangeRefusal? {
        if let refusal = endRefusal(at: time) { return refusal }
        finish(as: .cancelled)
        return nil
    }

    /// An administrator moves the end to a later time.
    package mutating func extend(
        to newEnd: Timestamp, startsAt: Timestamp, at time: Timestamp
    ) -> ChangeRefusal? {
        if let refusal = endRefusal(at: time) { return refusal }
        guard newEnd > endsAt else { return .endNotLater }
        if let fault = AuctionSchedule(startsAt: startsAt, endsAt: newEnd).endFault(at: time) {
            return .schedule(fault)
        }
        let previousEnd = endsAt
        endsAt = newEnd
        record(.timeExtended(newEndsAt: newEnd, previousEndsAt: previousEnd, reason: .admin))
        return nil
    }

    /// Why `userID` may not change the auction at `time` as its seller; `nil` when nothing is in the way.
    package func sellerRefusal(_ userID: String, at time: Timestamp) -> ChangeRefusal? {
        guard userID == sellerID else { return .notSeller }
        if let refusal = endRefusal(at: time) { return refusal }
        return bidCount > 0 ? .hasBids : nil
    }

    /// Why nobody may change the auction any more; `nil` while it runs or waits for its start.
    package func endRefusal(at time: Timestamp) -> ChangeRefusal? {
        switch status {
        case .sold: .ended(winner: leader?.username)
        case .unsold, .cancelled: .ended(winner: nil)
        case .active where time >= endsAt: .ended(winner: isReserveMet ? leader?.username : nil)
        case .active, .scheduled: nil
        }
    }
}
