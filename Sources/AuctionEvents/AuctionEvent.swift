// The events that the bid API commits and the gateway fans out, and their JSON. The text made here is what
// the outbox stores, Redis logs and every watcher receives, byte for byte.

/// An event of an auction, before it has its sequence number and time.
package enum AuctionEvent: Sendable, Equatable {
    case bidUpdate(BidUpdate)
    case timeExtended(newEndsAt: Timestamp, previousEndsAt: Timestamp, reason: ExtensionReason)
    case auctionEnded(Ending)
    case auctionStarted(AuctionState)
    case auctionUpdated(AuctionState)

    package enum ExtensionReason: String, Sendable {
        case antiSniping = "anti_sniping"
        case admin
    }

    package struct BidUpdate: Sendable, Equatable {
        package let bidID: String
        package let bidder: String
        package let amount: Money
        /// The bid's place among the highest, from 1.
        package let rank: Int
        package let bidAt: Timestamp
        package let isProxy: Bool
        package let currentPrice: Money
        package let bidCount: Int
        package let reserveMet: Bool
        package let endsAt: Timestamp
        /// The increment at the current price; `nil` when it is the same at every price.
        package let increment: Money?

        package init(
            bidID: String, bidder: String, amount: Money, rank: Int, bidAt: Timestamp, isProxy: Bool,
            currentPrice: Money, bidCount: Int, reserveMet: Bool, endsAt: Timestamp,
            increment: Money? = nil
        ) {
            self.bidID = bidID
            self.bidder = bidder
            self.amount = amount
            self.rank = rank
            self.bidAt = bidAt
            self.isProxy = isProxy
            self.currentPrice = currentPrice
            self.bidCount = bidCount
            self.reserveMet = reserveMet
            self.endsAt = endsAt
            self.increment = increment
        }
    }

    package struct Ending: Sendable, Equatable {
        package let outcome: AuctionStatus
        /// `nil` unless sold.
        package let winner: Winner?
        package let totalBids: Int

        package init(outcome: AuctionStatus, winner: Winner?, totalBids: Int) {
            self.outcome = outcome
            self.winner = winner
            self.totalBids = totalBids
        }
    }

    /// A bidder and the amount that won or leads.
    package struct Winner: Sendable, Equatable {
        package let userID: String
        package let username: String
        package let amount: Money

        package init(userID: String, username: String, amount: Money) {
            self.userID = userID
            self.username = username
            self.amount = amount
        }
    }

    /// The event's JSON.
    /// - Parameters:
    ///   - serverTime: the database's clock at the commit's decision.
    ///   - trace: of the bid that caused the event, when that bid is traced.
    package func encoded(
        auctionID: AuctionID, sequence: SequenceNumber, serverTime: Timestamp, trace: TraceContext? = nil
    ) -> String {
        var writer = JSONWriter()
        writer.object {
            $0.field("type", typeName)
            $0.field("auction_id", auctionID.text)
            $0.field("seq", sequence)
            $0.field("server_time", serverTime)
            writeBody(to: &$0, serverTime: serverTime)
            if let trace { $0.field("traceparent", trace.text) }
        }
        return writer.text
    }

    private var typeName: String {
        switch self {
        case .bidUpdate: "BID_UPDATE"
        case .timeExtended: "TIME_EXTENDED"
        case .auctionEnded: "AUCTION_ENDED"
        case .auctionStarted: "AUCTION_STARTED"
        case .auctionUpdated: "AUCTION_UPDATED"
        }
    }

    private func writeBody(to writer: inout JSONWriter, serverTime: Timestamp) {
        switch self {
        case .bidUpdate(let update):
            writer.key("bid")
            writer.object {
                $0.field("bid_id", update.bidID)
                $0.field("bidder", update.bidder)
                $0.field("amount", update.amount)
                $0.field("rank", update.rank)
                $0.field("bid_at", update.bidAt)
                $0.field("is_proxy", update.isProxy)
            }
            writer.field("current_price", update.currentPrice)
            writer.field("bid_count", update.bidCount)
            if let increment = update.increment { writer.field("bid_increment", increment) }
            writer.field("reserve_met", update.reserveMet)
            writer.field("ends_at", update.endsAt)
            let remaining = max(0, update.endsAt.milliseconds - serverTime.milliseconds)
            writer.field("time_remaining_seconds", Int(remaining / 1_000))
        case .timeExtended(let newEndsAt, let previousEndsAt, let reason):
            writer.field("new_ends_at", newEndsAt)
            writer.field("previous_ends_at", previousEndsAt)
            writer.field("reason", reason.rawValue)
        case .auctionEnded(let ending):
            writer.field("outcome", ending.outcome.rawValue)
            writer.key("winner")
            if let winner = ending.winner {
                writer.object {
                    $0.field("user_id", winner.userID)
                    $0.field("username", winner.username)
                }
            } else {
                writer.null()
            }
            writer.field("winning_bid", ending.winner?.amount)
            writer.field("total_bids", ending.totalBids)
        case .auctionStarted(let state), .auctionUpdated(let state):
            writer.key("state")
            writer.object { state.writeFields(to: &$0) }
        }
    }
}
