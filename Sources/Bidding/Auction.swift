// The auction's rules as a value: given the locked row's content and the database's clock, it decides each bid, the
// extension and the end, and makes the events. It knows no database, so that every rule can be tested alone.

package import AuctionEvents

/// A bid as it is asked for.
package struct BidRequest: Sendable, Equatable {
    package let bidID: String
    package let bidderID: String
    package let bidder: String
    package let amount: Money

    package init(bidID: String, bidderID: String, bidder: String, amount: Money) {
        self.bidID = bidID
        self.bidderID = bidderID
        self.bidder = bidder
        self.amount = amount
    }
}

/// Why a rule refuses a bid.
package enum BidRefusal: Error, Sendable, Equatable {
    case notStarted
    /// The auction is over; the winner's user name, if there is one.
    case ended(winner: String?)
    case ownAuction
    case alreadyHighest
    case tooLow(currentPrice: Money, minimum: Money)
}

/// A bid that was accepted, as it stands in the `bids` table.
package struct AcceptedBid: Sendable, Equatable {
    package let request: BidRequest
    package let bidAt: Timestamp
    package let sequence: SequenceNumber
    package let rank: Int
    /// The price and the end after this bid.
    package let currentPrice: Money
    package let endsAt: Timestamp
}

/// When a late bid extends the auction.
package struct AntiSniping: Sendable, Equatable {
    /// Milliseconds before the end in which a bid extends; 0 = never.
    package let windowMilliseconds: Int64
    /// Milliseconds from the bid to the new end.
    package let extensionMilliseconds: Int64

    package init(windowMilliseconds: Int64, extensionMilliseconds: Int64) {
        self.windowMilliseconds = windowMilliseconds
        self.extensionMilliseconds = extensionMilliseconds
    }
}

package struct Auction: Sendable {
    /// Who is ahead, and with which amount.
    package typealias Leader = AuctionEvent.Winner

    package let id: AuctionID
    package let sellerID: String
    package let title: String
    package let currency: String
    package let startingPrice: Money
    /// Never shown; only whether it is met.
    package let reservePrice: Money?
    package let increments: IncrementTable

    package private(set) var status: AuctionStatus
    package private(set) var endsAt: Timestamp
    package private(set) var leader: Leader?
    package private(set) var bidCount: Int
    package private(set) var sequence: SequenceNumber
    package private(set) var topBids: [TopBid]

    /// What the calls since the last ``takeEvents()`` brought about, in order.
    private var events: [(sequence: SequenceNumber, event: AuctionEvent)] = []

    package init(
        id: AuctionID, sellerID: String, title: String, currency: String, startingPrice: Money,
        reservePrice: Money?,
        increments: IncrementTable, status: AuctionStatus, endsAt: Timestamp, leader: Leader? = nil,
        bidCount: Int = 0, sequence: SequenceNumber = 0, topBids: [TopBid] = []
    ) {
        self.id = id
        self.sellerID = sellerID
        self.title = title
        self.currency = currency
        self.startingPrice = startingPrice
        self.reservePrice = reservePrice
        self.increments = increments
        self.status = status
        self.endsAt = endsAt
        self.leader = leader
        self.bidCount = bidCount
        self.sequence = sequence
        self.topBids = topBids
    }

    package var currentPrice: Money { leader?.amount ?? startingPrice }

    /// The least a bid must be now.
    package var minimumBid: Money {
        guard let leader else { return startingPrice }
        return leader.amount + increments.increment(at: leader.amount)
    }

    package var isReserveMet: Bool {
        guard let leader else { return false }
        return reservePrice.map { leader.amount >= $0 } ?? true
    }

    package var state: AuctionState {
        AuctionState(
            title: title, status: status, currency: currency, startingPrice: startingPrice,
            currentPrice: currentPrice, bidIncrement: increments.increment(at: currentPrice),
            bidCount: bidCount,
            reserveMet: isReserveMet, endsAt: endsAt, topBids: topBids)
    }

    // MARK: Decisions

    /// Decides one bid at `time`, the database's clock read under the row's lock.
    package mutating func place(
        _ request: BidRequest, at time: Timestamp, antiSniping: AntiSniping
    ) -> Result<AcceptedBid, BidRefusal> {
        switch status {
        case .scheduled: return .failure(.notStarted)
        case .sold, .unsold, .cancelled:
            return .failure(.ended(winner: status == .sold ? leader?.username : nil))
        case .active: break
        }
        guard time < endsAt else { return .failure(.ended(winner: isReserveMet ? leader?.username : nil)) }
        guard request.bidderID != sellerID else { return .failure(.ownAuction) }
        guard request.bidderID != leader?.userID else { return .failure(.alreadyHighest) }
        guard request.amount >= minimumBid else {
            return .failure(.tooLow(currentPrice: currentPrice, minimum: minimumBid))
        }
        leader = Leader(userID: request.bidderID, username: request.bidder, amount: request.amount)
        bidCount += 1
        topBids.insert(TopBid(bidder: request.bidder, amount: request.amount, bidAt: time), at: 0)
        if topBids.count > AuctionState.topBidLimit { topBids.removeLast() }
        let previousEnd = endsAt
        extendIfLate(at: time, antiSniping)
        record(
            .bidUpdate(
                AuctionEvent.BidUpdate(
                    bidID: request.bidID, bidder: request.bidder, amount: request.amount, rank: 1,
                    bidAt: time,
                    isProxy: false, currentPrice: currentPrice, bidCount: bidCount, reserveMet: isReserveMet,
                    endsAt: endsAt)))
        let accepted = AcceptedBid(
            request: request, bidAt: time, sequence: sequence, rank: 1, currentPrice: currentPrice,
            endsAt: endsAt)
        if endsAt != previousEnd { record(.timeExtended(newEndsAt: endsAt, previousEndsAt: previousEnd)) }
        return .success(accepted)
    }

    /// Ends an active auction whose time is over; nothing happens otherwise.
    package mutating func end(at time: Timestamp) {
        guard status == .active, time >= endsAt else { return }
        status = isReserveMet ? .sold : .unsold
        record(
            .auctionEnded(
                AuctionEvent.Ending(
                    outcome: status,
                    winner: status == .sold ? leader : nil,
                    totalBids: bidCount)))
    }

    /// Opens a scheduled auction. The caller knows that its time has come.
    package mutating func start() {
        guard status == .scheduled else { return }
        status = .active
        record(.auctionStarted(state))
    }

    /// The events since the last call.
    package mutating func takeEvents() -> [(sequence: SequenceNumber, event: AuctionEvent)] {
        defer { events = [] }
        return events
    }

    private mutating func record(_ event: AuctionEvent) {
        sequence += 1
        events.append((sequence, event))
    }

    private mutating func extendIfLate(at time: Timestamp, _ antiSniping: AntiSniping) {
        let left = endsAt.milliseconds - time.milliseconds
        guard left > 0, left <= antiSniping.windowMilliseconds else { return }
        endsAt = max(endsAt, Timestamp(milliseconds: time.milliseconds + antiSniping.extensionMilliseconds))
    }
}
