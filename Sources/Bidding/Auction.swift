// The auction's rules as a value. From the locked row's content and the database's clock, it decides each
// bid, the extension and the end, and makes the rows and events. It does not access the database, so every
// rule can be tested alone.

package import AuctionEvents

package struct Auction: Sendable {
    /// Who is ahead, and with which amount.
    package typealias Leader = AuctionEvent.Winner

    /// An event with its place in the auction.
    package struct Recorded: Sendable, Equatable {
        package let sequence: SequenceNumber
        package let event: AuctionEvent
        /// Of the bid that caused it, when that bid is traced.
        package let trace: TraceContext?
    }

    package let id: AuctionID
    package let sellerID: String
    package let currency: Currency

    package internal(set) var terms: AuctionTerms
    package private(set) var status: AuctionStatus
    package internal(set) var endsAt: Timestamp
    package private(set) var leader: Leader?
    /// The leader's maximum: the amount, or more. Secret while nobody has beaten it.
    package private(set) var leaderMaximum: Money?
    package private(set) var bidCount: Int
    package private(set) var sequence: SequenceNumber
    package private(set) var topBids: [TopBid]

    /// The events and bids since the last ``takeEvents()`` and ``takeBids()``, in order.
    private var events: [Recorded] = []
    /// The trace of the bid that is being decided.
    private var trace: TraceContext?
    private var bids: [PlacedBid] = []
    /// The users who lost the lead at some time since the last ``takeNotices()``.
    private var formerLeaders: [String] = []
    private var hasEnded = false
    /// True when the row must be written, even if there is no event.
    package private(set) var isChanged = false

    package init(
        id: AuctionID, sellerID: String, currency: Currency, terms: AuctionTerms, status: AuctionStatus,
        endsAt: Timestamp, leader: Leader? = nil, leaderMaximum: Money? = nil, bidCount: Int = 0,
        sequence: SequenceNumber = 0, topBids: [TopBid] = []
    ) {
        self.id = id
        self.sellerID = sellerID
        self.currency = currency
        self.terms = terms
        self.status = status
        self.endsAt = endsAt
        self.leader = leader
        self.leaderMaximum = leaderMaximum ?? leader?.amount
        self.bidCount = bidCount
        self.sequence = sequence
        self.topBids = topBids
    }

    package var currentPrice: Money { leader?.amount ?? terms.startingPrice }

    /// The lowest amount that a bid may have now.
    package var minimumBid: Money {
        guard let leader else { return terms.startingPrice }
        return oneIncrement(above: leader.amount)
    }

    package var isReserveMet: Bool {
        guard let leader else { return false }
        return terms.reservePrice.map { leader.amount >= $0 } ?? true
    }

    package var state: AuctionState {
        AuctionState(
            title: terms.title, status: status, currency: currency.code, startingPrice: terms.startingPrice,
            currentPrice: currentPrice, bidIncrement: terms.increments.increment(at: currentPrice),
            bidCount: bidCount, reserveMet: isReserveMet, endsAt: endsAt, topBids: topBids)
    }

    // MARK: Bids

    /// Decides one bid at `time`, the database's clock read under the row's lock.
    package mutating func place(
        _ request: BidRequest, at time: Timestamp, antiSniping: AntiSniping
    ) -> Result<BidReceipt, BidRefusal> {
        trace = request.trace
        defer { trace = nil }
        switch status {
        case .scheduled: return .failure(.notStarted)
        case .sold, .unsold, .cancelled:
            return .failure(.ended(winner: status == .sold ? leader?.username : nil))
        case .active: break
        }
        guard time < endsAt else { return .failure(.ended(winner: isReserveMet ? leader?.username : nil)) }
        guard request.bidderID != sellerID else { return .failure(.ownAuction) }
        switch request.offer.converted(to: currency) {
        case .failure(let excess): return .failure(.excessDecimals(excess))
        case .success(let offer): return decide(request, offer, at: time, antiSniping)
        }
    }

    private mutating func decide(
        _ request: BidRequest, _ offer: BidRequest.Offer, at time: Timestamp, _ antiSniping: AntiSniping
    ) -> Result<BidReceipt, BidRefusal> {
        switch offer {
        case .buyNow(let agreed): return buy(request, agreed: agreed, at: time)
        case .plain(let amount):
            return bid(request, amount: amount, maximum: amount, at: time, antiSniping)
        case .limited(let amount, let maximum):
            return bid(request, amount: amount, maximum: maximum, at: time, antiSniping)
        case .proxy(let maximum): return bid(request, amount: nil, maximum: maximum, at: time, antiSniping)
        }
    }

    private mutating func bid(
        _ request: BidRequest, amount: Money?, maximum: Money, at time: Timestamp, _ antiSniping: AntiSniping
    ) -> Result<BidReceipt, BidRefusal> {
        guard request.bidderID != leader?.userID else {
            return raise(request, amount: amount, to: maximum, at: time, antiSniping)
        }
        // At the largest possible amount, an increment adds nothing, so also require a higher amount.
        let isHigher = leader.map { (amount ?? maximum) > $0.amount } ?? true
        guard isHigher, (amount ?? maximum) >= minimumBid else { return .failure(tooLow) }
        let least = amount ?? minimumBid
        guard let leader, let known = leaderMaximum else {
            return lead(request, at: withReserve(least, maximum), maximum, named: amount, time, antiSniping)
        }
        if maximum > known {
            // One increment above the second-highest maximum, and no more than the highest.
            let needed = max(least, min(maximum, oneIncrement(above: known)))
            return lead(request, at: withReserve(needed, maximum), maximum, named: amount, time, antiSniping)
        }
        guard maximum < known else {
            // The earlier of two equal maxima wins. It is bid in full, so it is no longer secret.
            write(request.automaticBidID, leader.bids(known), isProxy: true, time, antiSniping)
            return .failure(tooLow)
        }
        write(request.bidID, request.bids(maximum), isProxy: maximum != amount, time, antiSniping)
        let answer = withReserve(min(known, oneIncrement(above: maximum)), known)
        write(request.automaticBidID, leader.bids(answer), isProxy: true, time, antiSniping)
        return .success(receipt(request, amount: maximum, rank: 2, time))
    }

    /// The leader raises the maximum. That moves neither price nor end, unless the maximum now reaches the
    /// reserve. In that case, the reserve is bid.
    private mutating func raise(
        _ request: BidRequest, amount: Money?, to maximum: Money, at time: Timestamp,
        _ antiSniping: AntiSniping
    ) -> Result<BidReceipt, BidRefusal> {
        if case .plain = request.offer { return .failure(.alreadyHighest) }
        guard let known = leaderMaximum else { return .failure(tooLow) }
        guard maximum > known else {
            let least = known + Money(minorUnits: 1, decimals: known.decimals)
            return .failure(.tooLow(currentPrice: currentPrice, minimum: least))
        }
        let price = withReserve(currentPrice, maximum)
        guard price == currentPrice else {
            return lead(request, at: price, maximum, named: amount, time, antiSniping)
        }
        leaderMaximum = maximum
        isChanged = true
        return .success(receipt(request, amount: currentPrice, rank: 1, time))
    }

    /// Makes the bidder the leader.
    /// - Parameter named: the amount that the bidder asked for, if any.
    private mutating func lead(
        _ request: BidRequest, at amount: Money, _ maximum: Money, named: Money?, _ time: Timestamp,
        _ antiSniping: AntiSniping
    ) -> Result<BidReceipt, BidRefusal> {
        leaderMaximum = maximum
        write(request.bidID, request.bids(amount), isProxy: amount != named, time, antiSniping)
        return .success(receipt(request, amount: amount, rank: 1, time))
    }

    private mutating func buy(
        _ request: BidRequest, agreed: Money?, at time: Timestamp
    ) -> Result<BidReceipt, BidRefusal> {
        guard let buyNowPrice = terms.buyNowPrice else { return .failure(.notForSale) }
        guard agreed == nil || agreed == buyNowPrice else {
            return .failure(.priceChanged(buyNowPrice: buyNowPrice))
        }
        guard currentPrice < buyNowPrice else { return .failure(tooLow) }
        leaderMaximum = buyNowPrice
        endsAt = time
        write(
            request.bidID, request.bids(buyNowPrice), isProxy: false, time,
            AntiSniping(windowMilliseconds: 0, extensionMilliseconds: 0))
        finish(as: .sold)
        return .success(receipt(request, amount: buyNowPrice, rank: 1, time))
    }

    /// A row, its event, and the extension that it may cause.
    private mutating func write(
        _ bidID: String, _ new: Leader, isProxy: Bool, _ time: Timestamp, _ antiSniping: AntiSniping
    ) {
        if let leader, leader.userID != new.userID { formerLeaders.append(leader.userID) }
        leader = new
        bidCount += 1
        topBids.insert(TopBid(bidder: new.username, amount: new.amount, bidAt: time), at: 0)
        if topBids.count > AuctionState.topBidLimit { topBids.removeLast() }
        let previousEnd = endsAt
        extendIfLate(at: time, antiSniping)
        record(
            .bidUpdate(
                AuctionEvent.BidUpdate(
                    bidID: bidID, bidder: new.username, amount: new.amount, rank: 1, bidAt: time,
                    isProxy: isProxy, currentPrice: currentPrice, bidCount: bidCount,
                    reserveMet: isReserveMet, endsAt: endsAt,
                    increment: terms.increments.isFixed
                        ? nil : terms.increments.increment(at: currentPrice)))
        )
        bids.append(
            PlacedBid(
                bidID: bidID, bidderID: new.userID, bidder: new.username, amount: new.amount,
                isProxy: isProxy,
                bidAt: time, sequence: sequence))
        if endsAt != previousEnd {
            record(.timeExtended(newEndsAt: endsAt, previousEndsAt: previousEnd, reason: .antiSniping))
        }
    }

    private func receipt(_ request: BidRequest, amount: Money, rank: Int, _ time: Timestamp) -> BidReceipt {
        BidReceipt(
            bidID: request.bidID, amount: amount, rank: rank, currentPrice: currentPrice, endsAt: endsAt,
            bidAt: time)
    }

    private var tooLow: BidRefusal { .tooLow(currentPrice: currentPrice, minimum: minimumBid) }

    private func oneIncrement(above price: Money) -> Money {
        price + terms.increments.increment(at: price)
    }

    /// A maximum that reaches the reserve bids at least the reserve.
    private func withReserve(_ amount: Money, _ maximum: Money) -> Money {
        guard let reservePrice = terms.reservePrice, maximum >= reservePrice else { return amount }
        return max(amount, reservePrice)
    }

    // MARK: Time

    /// Ends an active auction whose time is over; nothing happens otherwise.
    package mutating func end(at time: Timestamp) {
        guard status == .active, time >= endsAt else { return }
        finish(as: isReserveMet ? .sold : .unsold)
    }

    /// Opens a scheduled auction. The caller knows that its time has come.
    package mutating func start() {
        guard status == .scheduled else { return }
        status = .active
        record(.auctionStarted(state))
    }

    mutating func finish(as outcome: AuctionStatus) {
        status = outcome
        hasEnded = true
        record(
            .auctionEnded(
                AuctionEvent.Ending(
                    outcome: outcome, winner: outcome == .sold ? leader : nil, totalBids: bidCount)))
    }

    private mutating func extendIfLate(at time: Timestamp, _ antiSniping: AntiSniping) {
        let left = endsAt.milliseconds - time.milliseconds
        guard left > 0, left <= antiSniping.windowMilliseconds else { return }
        endsAt = max(endsAt, Timestamp(milliseconds: time.milliseconds + antiSniping.extensionMilliseconds))
    }

    // MARK: Results

    /// The events since the last call.
    package mutating func takeEvents() -> [Recorded] {
        defer { events = [] }
        return events
    }

    /// The bids since the last call, in order; their amounts rise strictly.
    package mutating func takeBids() -> [PlacedBid] {
        defer { bids = [] }
        return bids
    }

    /// The notices for single users since the last call, and whether all bidders are to be told of the end.
    package mutating func takeNotices() -> (notices: [Notice], endsForBidders: Bool) {
        defer {
            formerLeaders = []
            hasEnded = false
        }
        guard hasEnded else {
            // A user who leads again gets no notice. A user who lost the lead several times gets one.
            let outbid = Set(formerLeaders).subtracting([leader?.userID ?? ""])
            return (outbid.sorted().map { Notice(userID: $0, kind: .outbid, amount: currentPrice) }, false)
        }
        guard status == .sold, let leader else {
            return ([Notice(userID: sellerID, kind: .unsold, amount: leader?.amount)], true)
        }
        return (
            [
                Notice(userID: leader.userID, kind: .won, amount: leader.amount),
                Notice(userID: sellerID, kind: .sold, amount: leader.amount),
            ], true
        )
    }

    mutating func record(_ event: AuctionEvent) {
        sequence += 1
        isChanged = true
        events.append(Recorded(sequence: sequence, event: event, trace: trace))
    }
}

extension BidRequest {
    fileprivate func bids(_ amount: Money) -> Auction.Leader {
        Auction.Leader(userID: bidderID, username: bidder, amount: amount)
    }
}

extension Auction.Leader {
    fileprivate func bids(_ amount: Money) -> Auction.Leader {
        Auction.Leader(userID: userID, username: username, amount: amount)
    }
}
