// Changes by sellers and administrators. Like a bid, each change is one transaction under the row's lock.

package import AuctionEvents
package import Bidding

/// A seller's changes. A member that is `nil` stays as it is.
package struct AuctionPatch: Sendable {
    package enum Price: Sendable {
        case unchanged
        /// `nil`: none.
        case set(Money?)
    }

    package var title: String?
    package var description: String?
    package var category: String?
    package var imageURLs: [String]?
    package var startingPrice: Money?
    package var reservePrice = Price.unchanged
    package var buyNowPrice = Price.unchanged
    package var increments: IncrementTable?
    package var startsAt: Timestamp?
    package var end: AuctionDraft.End?
    /// Currency and visibility cannot be changed. A request may only repeat their present values.
    package var currency: String?
    package var isPrivate: Bool?

    package init() {}

    fileprivate func terms(_ old: AuctionTerms) -> AuctionTerms {
        func changed(_ price: Price, _ old: Money?) -> Money? {
            if case .set(let money) = price { money } else { old }
        }
        return AuctionTerms(
            title: title ?? old.title, startingPrice: startingPrice ?? old.startingPrice,
            reservePrice: changed(reservePrice, old.reservePrice),
            buyNowPrice: changed(buyNowPrice, old.buyNowPrice), increments: increments ?? old.increments)
    }
}

/// Where an administrator moves an auction's end.
package enum EndExtension: Sendable {
    case to(Timestamp)
    /// Milliseconds after the present end.
    case by(milliseconds: Int64)
}

package enum AuctionChanges {
    package enum Refusal: Error, Sendable {
        case unknownAuction
        case hasStarted
        /// A member that cannot be changed, by its name.
        case fixed(String)
        case excessDecimals(ExcessDecimals)
        case rule(ChangeRefusal)
        case user(UserRecords.Refusal)
    }

    package static func update(
        _ connection: PostgresConnection, _ id: AuctionID, by userID: String, _ patch: AuctionPatch
    ) throws(DatabaseError) -> Result<AuctionRecord, Refusal> {
        try change(connection, id, by: userID) { auction, startsAt, now in
            let schedule = AuctionSchedule(
                startsAt: patch.startsAt ?? startsAt,
                endsAt: patch.end?.time(startsAt: patch.startsAt ?? startsAt) ?? auction.endsAt)
            let isSeller = userID == auction.sellerID
            if isSeller, auction.status == .active, schedule.startsAt != startsAt {
                return .failure(.hasStarted)
            }
            if let refusal = auction.sellerRefusal(userID, at: now) { return .failure(.rule(refusal)) }
            let terms: AuctionTerms
            switch patch.terms(auction.terms).converted(to: auction.currency) {
            case .failure(let excess): return .failure(.excessDecimals(excess))
            case .success(let converted): terms = converted
            }
            if let refusal = auction.update(terms, schedule, by: userID, at: now) {
                return .failure(.rule(refusal))
            }
            if let currency = patch.currency, currency != auction.currency.code {
                return .failure(.fixed("currency"))
            }
            if let isPrivate = patch.isPrivate, isPrivate != id.isPrivate {
                return .failure(.fixed("visibility"))
            }
            return .success([writing(patch, auction, schedule)])
        }
    }

    package static func withdraw(
        _ connection: PostgresConnection, _ id: AuctionID, by userID: String
    ) throws(DatabaseError) -> Result<AuctionRecord, Refusal> {
        try change(connection, id, by: userID) { auction, _, now in
            auction.withdraw(by: userID, at: now).map { .failure(.rule($0)) } ?? .success([])
        }
    }

    package static func cancel(
        _ connection: PostgresConnection, _ id: AuctionID, by adminID: String, reason: String
    ) throws(DatabaseError) -> Result<AuctionRecord, Refusal> {
        try change(connection, id, by: adminID, role: .admin) { auction, _, now in
            if let refusal = auction.cancel(at: now) { return .failure(.rule(refusal)) }
            let entry = AuditEntry(adminID, "cancel", auctionID: id.text, reason: reason)
            return .success([AuditLog.writing(entry)])
        }
    }

    package static func extend(
        _ connection: PostgresConnection, _ id: AuctionID, by adminID: String, _ length: EndExtension,
        reason: String
    ) throws(DatabaseError) -> Result<AuctionRecord, Refusal> {
        try change(connection, id, by: adminID, role: .admin) { auction, startsAt, now in
            let newEnd =
                switch length {
                case .to(let time): time
                case .by(let milliseconds):
                    Timestamp(milliseconds: auction.endsAt.milliseconds + milliseconds)
                }
            let previous = auction.endsAt
            if let refusal = auction.extend(to: newEnd, startsAt: startsAt, at: now) {
                return .failure(.rule(refusal))
            }
            let entry = AuditEntry(
                adminID, "extend", auctionID: id.text, reason: reason, details: "\(previous) to \(newEnd)")
            return .success([AuditLog.writing(entry)])
        }
    }

    /// - Parameter decide: changes the auction and returns further statements, which run before the
    ///   auction's.
    private static func change(
        _ connection: PostgresConnection, _ id: AuctionID, by userID: String, role: UserRecords.Role = .user,
        _ decide: (inout Auction, _ startsAt: Timestamp, _ now: Timestamp) -> Result<[Statement], Refusal>
    ) throws(DatabaseError) -> Result<AuctionRecord, Refusal> {
        let refusal = try connection.transaction { () throws(DatabaseError) -> Refusal? in
            let rows = try connection.pipeline([
                UserRecords.byIDs([userID]),
                AuctionRecords.locking("a.auction_id = $1 FOR NO KEY UPDATE", [id.text]),
                Statement("SELECT \(PostgresText.milliseconds("clock_timestamp()"))"),
                AuctionRecords.topBids([id]),
            ])
            if let refusal = UserRecords.refusal(rows[0], role) { return .user(refusal) }
            guard !rows[1].isEmpty else { return .unknownAuction }
            let now = try rows[2].time(0, 0)
            let top = AuctionRecords.groupedTopBids(connection, rows[3])[id.text] ?? []
            var auction = try AuctionRecords.auction(rows[1], 0, topBids: top)
            switch decide(&auction, try AuctionRecords.startsAt(rows[1], 0), now) {
            case .failure(let refusal): return refusal
            case .success(let others):
                let change = AuctionChange(auction, at: now)
                _ = try connection.pipeline(others + AuctionRecords.writing([change]))
                return nil
            }
        }
        if let refusal { return .failure(refusal) }
        guard let record = try AuctionRecords.find(connection, id) else {
            throw .unavailable("the changed auction was not found again")
        }
        return .success(record)
    }

    private static func writing(
        _ patch: AuctionPatch, _ auction: Auction, _ schedule: AuctionSchedule
    ) -> Statement {
        let terms = auction.terms
        return Statement(
            """
            UPDATE auctions SET title = $2, description = coalesce($3, description),
                category = coalesce($4, category), image_urls = coalesce($5::text[], image_urls),
                starting_price = $6::bigint, current_price = $6::bigint, reserve_price = $7::bigint,
                buy_now_price = $8::bigint, increments = $9, starts_at = \(PostgresText.time("$10")),
                ends_at = \(PostgresText.time("$11"))
            WHERE auction_id = $1
            """,
            [
                auction.id.text, terms.title, patch.description, patch.category,
                patch.imageURLs.map { PostgresText.array($0) }, "\(terms.startingPrice.minorUnits)",
                AuctionRecords.minorUnits(terms.reservePrice), AuctionRecords.minorUnits(terms.buyNowPrice),
                terms.increments.stored, "\(schedule.startsAt.milliseconds)",
                "\(schedule.endsAt.milliseconds)",
            ])
    }
}
