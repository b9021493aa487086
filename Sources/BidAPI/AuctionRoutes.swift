// Creating, changing, reading, listing and sharing auctions.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Hummingbird
import Tokens

struct AuctionRoutes: Sendable {
    /// How long a share token stays valid after the auction's end, or after now if that is later.
    private static let shareSeconds: Int64 = 86_400

    let services: Services

    // MARK: Sellers

    func create(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let draft = try await RequestBodies.decode(CreateAuctionBody.self, from: request).draft(
            sellerID: userID)
        let limit = services.settings.current.auctionsPerHour
        if let seconds = await services.auctionLimiter.take(userID, limit: limit) {
            throw APIError.rateLimited(retryAfterSeconds: seconds)
        }
        let result = try await services.pool.run { connection throws(DatabaseError) in
            if let refusal = try UserRecords.refusal(connection, userID, .user) {
                return Result<AuctionRecord, APIError>.failure(.refusal(refusal))
            }
            return try AuctionRecords.insert(connection, draft).mapError(APIError.schedule)
        }
        switch result {
        case .failure(let error):
            await services.auctionLimiter.giveBack(userID, limit: limit)
            throw error
        case .success(let record):
            services.counters.createdAuctions.add()
            // Publish before answering: a client that learns the id may watch the auction at once.
            await services.relay.publish(record.auction.id)
            return .json(.created) { Self.write(record, to: &$0) }
        }
    }

    func update(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let id = try context.auctionID
        let patch = try await RequestBodies.decode(UpdateAuctionBody.self, from: request).patch
        return try await change { connection throws(DatabaseError) in
            try AuctionChanges.update(connection, id, by: userID, patch)
        }
    }

    func withdraw(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let id = try context.auctionID
        return try await change { connection throws(DatabaseError) in
            try AuctionChanges.withdraw(connection, id, by: userID)
        }
    }

    func share(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let record = try await find(try context.auctionID)
        let id = record.auction.id
        guard record.auction.sellerID == userID else { throw APIError.refusal(.rule(.notSeller)) }
        guard id.isPrivate else {
            throw APIError.validation("auction_id: a public auction needs no token")
        }
        let end = max(record.auction.endsAt, record.readAt).milliseconds / 1_000 + Self.shareSeconds
        let token = AccessToken(
            subject: "share", expiresAt: Int(end), audience: "watch", auctions: .listed([id.text]))
        let key = services.settings.current.signingKey
        return .json {
            $0.field("token", token.signed(with: key))
            $0.field("expires_at", Timestamp(milliseconds: end * 1_000))
        }
    }

    // MARK: Administrators

    func administer(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let id = try context.auctionID
        let body = try await RequestBodies.decode(AdministerBody.self, from: request)
        let reason = body.reason
        switch body.action {
        case .cancel:
            return try await change { connection throws(DatabaseError) in
                try AuctionChanges.cancel(connection, id, by: userID, reason: reason)
            }
        case .extend(let length):
            return try await change { connection throws(DatabaseError) in
                try AuctionChanges.extend(connection, id, by: userID, length, reason: reason)
            }
        }
    }

    private func change(
        _ body:
            @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Result<
                AuctionRecord, AuctionChanges.Refusal
            >
    ) async throws -> Response {
        let record = try await services.pool.run(body).mapError(APIError.refusal).get()
        services.relay.notify()
        return .json { Self.write(record, to: &$0) }
    }

    // MARK: Reading

    func get(_ request: Request, _ context: AppContext) async throws -> Response {
        let id = try context.auctionID
        try await services.requireUser(request, toRead: id)
        let record = try await find(id)
        // A public auction needs no token, so a bad token only leaves out the user's part.
        let userID = try? services.authenticate(request)
        let part = try await participation(of: userID, in: id)
        let viewers = await ViewerCounts.count(of: id.text, services.redis)
        return .json {
            Self.write(record, to: &$0)
            $0.key("viewer_count")
            if let viewers { $0.raw("\(viewers)") } else { $0.null() }
            if userID != nil { Self.write(part, to: &$0) }
        }
    }

    private func participation(of userID: String?, in id: AuctionID) async throws -> Participation? {
        guard let userID else { return nil }
        return try await services.pool.run { connection throws(DatabaseError) in
            try Participation.find(connection, id, of: userID)
        }
    }

    private static func write(_ part: Participation?, to writer: inout JSONWriter) {
        writer.key("you")
        guard let part else { return writer.null() }
        writer.object {
            $0.field("bidder", part.bidder)
            $0.field("is_highest_bidder", part.isHighest)
            $0.field("max_amount", part.maximum)
            $0.field("bid_count", part.bidCount)
        }
    }

    private func find(_ id: AuctionID) async throws -> AuctionRecord {
        let record = try await services.pool.run { connection throws(DatabaseError) in
            try AuctionRecords.find(connection, id)
        }
        guard let record else { throw APIError.notFound("auction") }
        return record
    }

    func list(_ request: Request, _ context: AppContext) async throws -> Response {
        let listing = try Self.listing(request)
        if listing.isSearch {
            let who = try? services.authenticate(request)
            let limit = services.settings.current.searchesPerMinute
            let seconds = await services.searchLimiter.take(
                who ?? services.client(request, context), limit: limit)
            if let seconds { throw APIError.rateLimited(retryAfterSeconds: seconds) }
        }
        let read = { @Sendable (connection: PostgresConnection) throws(DatabaseError) in
            try AuctionLists.page(connection, listing)
        }
        if let answer = await services.replica?.read(listing.isSearch ? .search : .page, read) {
            return .auctions(answer.value).declaring(ageMilliseconds: answer.ageMilliseconds)
        }
        let pool = listing.isSearch ? services.searchPool : services.pool
        return .auctions(try await pool.run(read))
    }

    private static func listing(_ request: Request) throws(APIError) -> AuctionListing {
        var listing = AuctionListing()
        if let text = try request.parameter("status") {
            guard let status = AuctionStatus(rawValue: text) else {
                throw .validation("status: must be scheduled, active, sold, unsold or cancelled")
            }
            listing.status = status
        }
        if let text = try request.parameter("sort") {
            guard let order = AuctionListing.Order(rawValue: text) else {
                throw .validation("sort: must be ending_soon, trending or newest")
            }
            listing.order = order
        }
        listing.category = try request.parameter("category", mayBeEmpty: true)
        if let text = try request.parameter("q", mayBeEmpty: true) {
            let words = text.lowercased().split { !$0.isLetter && !$0.isNumber }
            listing.words = words.prefix(Limits.searchWords).map(String.init)
            listing.isSearch = true
        }
        listing.limit = try request.limit
        listing.after = try request.pageCursor
        return listing
    }

    fileprivate static func write(_ record: AuctionRecord, to writer: inout JSONWriter) {
        let auction = record.auction
        writer.field("auction_id", auction.id.text)
        writer.field("seq", auction.sequence)
        writer.field("seller", record.seller)
        writer.field("visibility", auction.id.isPrivate ? "private" : "public")
        writer.field("description", record.description)
        writer.field("category", record.category)
        writer.key("image_urls")
        writer.array { for url in record.imageURLs { $0.string(url) } }
        writer.field("starts_at", record.startsAt)
        writer.field("buy_now_price", auction.terms.buyNowPrice)
        let left = auction.endsAt.milliseconds - record.readAt.milliseconds
        writer.field("time_remaining_seconds", auction.status == .active ? Int(max(0, left) / 1_000) : 0)
        auction.state.writeFields(to: &writer)
    }
}

extension Response {
    static func auctions(_ page: Page<AuctionRecord>) -> Response {
        .page("auctions", page.rows, next: page.next?.text) { AuctionRoutes.write($0, to: &$1) }
    }

    /// A page of objects. `more` may write further members after them.
    static func page<Row>(
        _ name: String, _ rows: [Row], next: String?, more: (inout JSONWriter) -> Void = { _ in },
        _ write: (Row, inout JSONWriter) -> Void
    ) -> Response {
        .json { writer in
            writer.key(name)
            writer.array { writer in for row in rows { writer.object { write(row, &$0) } } }
            more(&writer)
            writer.field("next_cursor", next)
        }
    }
}
