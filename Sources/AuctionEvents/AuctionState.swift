// The public state of an auction: what a SNAPSHOT shows, what Redis keeps under `{auction:<id>}:state`, and
// what `GET /api/v1/auctions/{id}` answers. Nothing secret (reserve, unbeaten maximum) has a field here.

package enum AuctionStatus: String, Sendable, CaseIterable {
    case scheduled, active, sold, unsold, cancelled

    package var isOver: Bool {
        switch self {
        case .sold, .unsold, .cancelled: true
        case .scheduled, .active: false
        }
    }
}

/// One of the highest bids; `rank` is its place in ``AuctionState/topBids``, from 1.
package struct TopBid: Sendable, Equatable {
    package let bidder: String
    package let amount: Money
    package let bidAt: Timestamp

    package init(bidder: String, amount: Money, bidAt: Timestamp) {
        self.bidder = bidder
        self.amount = amount
        self.bidAt = bidAt
    }
}

package struct AuctionState: Sendable, Equatable {
    /// How many of the highest bids a state carries.
    package static let topBidLimit = 10

    package var title: String
    package var status: AuctionStatus
    package var currency: String
    package var startingPrice: Money
    /// The highest bid, or the starting price before the first.
    package var currentPrice: Money
    package var bidIncrement: Money
    package var bidCount: Int
    package var reserveMet: Bool
    package var endsAt: Timestamp
    /// Highest first, at most ``topBidLimit``.
    package var topBids: [TopBid]

    package init(
        title: String, status: AuctionStatus, currency: String, startingPrice: Money, currentPrice: Money,
        bidIncrement: Money, bidCount: Int, reserveMet: Bool, endsAt: Timestamp, topBids: [TopBid]
    ) {
        self.title = title
        self.status = status
        self.currency = currency
        self.startingPrice = startingPrice
        self.currentPrice = currentPrice
        self.bidIncrement = bidIncrement
        self.bidCount = bidCount
        self.reserveMet = reserveMet
        self.endsAt = endsAt
        self.topBids = topBids
    }

    /// The object stored in Redis: `seq` first, so that the publishing script finds it without decoding the
    /// rest.
    package func encoded(sequence: SequenceNumber) -> [UInt8] {
        var writer = JSONWriter(capacity: 1_024)
        writer.object {
            $0.field("seq", sequence)
            writeFields(to: &$0)
        }
        return writer.bytes
    }

    /// Writes the contract's `state` keys into the object that is open in `writer`.
    package func writeFields(to writer: inout JSONWriter) {
        writer.field("title", title)
        writer.field("status", status.rawValue)
        writer.field("currency", currency)
        writer.field("starting_price", startingPrice)
        writer.field("current_price", currentPrice)
        writer.field("bid_increment", bidIncrement)
        writer.field("bid_count", bidCount)
        writer.field("reserve_met", reserveMet)
        writer.field("ends_at", endsAt)
        writer.key("top_bids")
        writer.array {
            for (index, bid) in topBids.enumerated() {
                $0.object {
                    $0.field("rank", index + 1)
                    $0.field("bidder", bid.bidder)
                    $0.field("amount", bid.amount)
                    $0.field("bid_at", bid.bidAt)
                }
            }
        }
    }
}
