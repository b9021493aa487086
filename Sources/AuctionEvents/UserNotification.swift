// A notification to a single user. The commit that causes it also stores it. Clients read it from the bid API
// or receive it on the channel `user:<id>`.

/// What the rules want a user to be told.
package struct Notice: Sendable, Equatable {
    package enum Kind: String, Sendable, CaseIterable {
        case outbid = "OUTBID"
        case won = "AUCTION_WON"
        case lost = "AUCTION_LOST"
        case sold = "AUCTION_SOLD"
        case unsold = "AUCTION_UNSOLD"
    }

    package let userID: String
    package let kind: Kind
    /// The price that leads or has won; `nil` where nobody has bid.
    package let amount: Money?

    package init(userID: String, kind: Kind, amount: Money?) {
        self.userID = userID
        self.kind = kind
        self.amount = amount
    }
}

/// A stored notice.
package struct UserNotification: Sendable {
    package let notificationID: String
    package let notice: Notice
    package let auctionID: String
    package let title: String
    package let currency: String
    package let createdAt: Timestamp

    package init(
        notificationID: String, notice: Notice, auctionID: String, title: String, currency: String,
        createdAt: Timestamp
    ) {
        self.notificationID = notificationID
        self.notice = notice
        self.auctionID = auctionID
        self.title = title
        self.currency = currency
        self.createdAt = createdAt
    }

    /// Writes its members into the object that is open in `writer`.
    package func writeFields(to writer: inout JSONWriter) {
        writer.field("type", notice.kind.rawValue)
        writer.field("notification_id", notificationID)
        writer.field("auction_id", auctionID)
        writer.field("title", title)
        writer.field("amount", notice.amount)
        writer.field("currency", currency)
        writer.field("created_at", createdAt)
    }

    package var json: String {
        var writer = JSONWriter()
        writer.object { writeFields(to: &$0) }
        return writer.text
    }
}
