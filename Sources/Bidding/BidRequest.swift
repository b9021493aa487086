// What bidders ask for, and what they are told.

package import AuctionEvents

/// A bid as it is asked for.
package struct BidRequest: Sendable, Equatable {
    package enum Offer: Sendable, Equatable {
        /// This amount, neither more nor less.
        case plain(Money)
        /// This amount at once, and more by itself up to the maximum.
        case limited(Money, maximum: Money)
        /// As little as needed, up to the maximum.
        case proxy(maximum: Money)
        /// The auction's buy-now price, which ends it. The bidder may have agreed to a certain price only.
        case buyNow(agreed: Money? = nil)
    }

    package let bidID: String
    /// The id of the leader's automatic answer, if there is one.
    package let automaticBidID: String
    package let bidderID: String
    package let bidder: String
    package let offer: Offer
    /// The events that the bid causes carry it.
    package let trace: TraceContext?

    package init(
        bidID: String, automaticBidID: String, bidderID: String, bidder: String, offer: Offer,
        trace: TraceContext? = nil
    ) {
        self.bidID = bidID
        self.automaticBidID = automaticBidID
        self.bidderID = bidderID
        self.bidder = bidder
        self.offer = offer
        self.trace = trace
    }
}

extension BidRequest.Offer {
    /// The same offer in a currency's decimals.
    func converted(to currency: Currency) -> Result<BidRequest.Offer, ExcessDecimals> {
        func convert(_ amount: Money, _ member: String) throws(ExcessDecimals) -> Money {
            guard let converted = amount.converted(toDecimals: currency.decimals) else {
                throw ExcessDecimals(member: member, currency: currency)
            }
            return converted
        }
        do throws(ExcessDecimals) {
            switch self {
            case .plain(let amount): return .success(.plain(try convert(amount, "amount")))
            case .limited(let amount, let maximum):
                return .success(
                    .limited(try convert(amount, "amount"), maximum: try convert(maximum, "max_amount")))
            case .proxy(let maximum): return .success(.proxy(maximum: try convert(maximum, "max_amount")))
            case .buyNow(let agreed):
                return .success(
                    .buyNow(
                        agreed: try agreed.map { amount throws(ExcessDecimals) in
                            try convert(amount, "amount")
                        }))
            }
        } catch {
            return .failure(error)
        }
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
    /// It has no buy-now price.
    case notForSale
    /// Its buy-now price is not the one that the bidder agreed to.
    case priceChanged(buyNowPrice: Money)
    case excessDecimals(ExcessDecimals)
}

/// A row of the `bids` table.
package struct PlacedBid: Sendable, Equatable {
    package let bidID: String
    package let bidderID: String
    package let bidder: String
    package let amount: Money
    /// True when the bidder did not name this amount.
    package let isProxy: Bool
    package let bidAt: Timestamp
    package let sequence: SequenceNumber
}

/// What became of an accepted bid.
package struct BidReceipt: Sendable, Equatable {
    package let bidID: String
    package let amount: Money
    /// 1 for the leader, 2 for a bidder whom the leader's maximum has beaten.
    package let rank: Int
    package let currentPrice: Money
    package let endsAt: Timestamp
    package let bidAt: Timestamp
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
