// Creating, listing and reading auctions.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import Hummingbird
import Synchronization

struct AuctionRoutes: Sendable {
    private static let minimumDurationSeconds = 1
    private static let maximumDurationSeconds = Int(AuctionRecords.maximumDurationMilliseconds / 1_000)
    private static let pageLimit = 100

    let services: Services

    // MARK: Create

    func create(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try services.authenticate(request)
        let body = try await RequestBodies.decode(CreateAuctionBody.self, from: request)
        let draft = try Self.draft(
            body, id: .random(prefix: "auc_"), sellerID: userID)
        if let seconds = services.auctionLimiter.take(userID, now: Date.now.timeIntervalSince1970) {
            throw APIError.rateLimited(retryAfterSeconds: seconds)
        }
        let result = try await services.pool.run { connection throws(DatabaseError) in
            guard let user = try UserRecords.find(connection, userID: userID) else {
                return Result<AuctionRecord, APIError>.failure(.unauthorized)
            }
            guard !user.isBanned else {
                return .failure(APIError(status: .forbidden, code: "BANNED", message: "this user is banned"))
            }
            return try AuctionRecords.insert(connection, draft).mapError(Self.error)
        }
        let record = try result.get()
        services.relay.notify()
        services.counters.createdAuctions.add(1, ordering: .relaxed)
        return .json(.created) { Self.write(record, to: &$0) }
    }

    private static func error(_ fault: AuctionRecords.DraftFault) -> APIError {
        switch fault {
        case .endsBeforeStart: .validation("ends_at: must be after the start and in the future")
        case .startsInThePast: .validation("starts_at: is in the past")
        case .tooLong: .validation("ends_at: an auction lasts at most 90 days")
        }
    }

    private static func draft(
        _ body: CreateAuctionBody, id: AuctionID, sellerID: String
    ) throws(APIError) -> AuctionDraft {
        guard (1...200).contains(body.title.count) else {
            throw .validation("title: must be 1 to 200 characters")
        }
        guard (body.description ?? "").utf8.count <= 20_000 else {
            throw .validation("description: is too long")
        }
        guard (body.category ?? "").utf8.count <= 64 else { throw .validation("category: is too long") }
        for (name, text) in [
            ("title", body.title), ("description", body.description), ("category", body.category),
        ] {
            guard text?.unicodeScalars.contains("\0") != true else {
                throw .validation("\(name): holds a NUL")
            }
        }
        let currency = body.currency ?? "USD"
        guard currency.utf8.count == 3, currency.utf8.allSatisfy({ (65...90).contains($0) }) else {
            throw .validation("currency: must be three capital letters (ISO 4217)")
        }
        guard body.starting_price.money.cents > 0 else {
            throw .validation("starting_price: must be above 0")
        }
        if let reserve = body.reserve_price, reserve.money < body.starting_price.money {
            throw .validation("reserve_price: is below starting_price")
        }
        if let price = body.buy_now_price?.money {
            guard price > body.starting_price.money else {
                throw .validation("buy_now_price: must be above starting_price")
            }
            guard price >= body.reserve_price?.money ?? price else {
                throw .validation("buy_now_price: is below reserve_price")
            }
        }
        guard (body.visibility ?? "public") == "public" else {
            throw .validation("visibility: only public is offered")
        }
        return AuctionDraft(
            id: id, sellerID: sellerID, title: body.title, description: body.description ?? "",
            category: body.category ?? "", currency: currency,
            imageURLs: try imageURLs(body.image_urls ?? []),
            startingPrice: body.starting_price.money, reservePrice: body.reserve_price?.money,
            buyNowPrice: body.buy_now_price?.money, increments: try increments(body),
            startsAt: body.starts_at?.time, end: try end(body))
    }

    private static func increments(_ body: CreateAuctionBody) throws(APIError) -> IncrementTable {
        switch (body.bid_increment, body.increment_table) {
        case (nil, nil): return IncrementTable(fixed: Money(cents: 100))
        case (let increment?, nil):
            guard increment.money.cents > 0 else { throw .validation("bid_increment: must be above 0") }
            return IncrementTable(fixed: increment.money)
        case (nil, let rows?):
            let table = IncrementTable(
                rows: rows.map { .init(from: $0.from.money, increment: $0.increment.money) })
            guard let table else {
                throw .validation(
                    "increment_table: must be 1 to \(IncrementTable.maximumRows) rows, from rising from 0, increments above 0"
                )
            }
            return table
        case (_?, _?): throw .validation("bid_increment: give it or increment_table, not both")
        }
    }

    private static func end(_ body: CreateAuctionBody) throws(APIError) -> AuctionDraft.End {
        switch (body.ends_at, body.duration_seconds) {
        case (let time?, nil): return .at(time.time)
        case (nil, let seconds?):
            guard (minimumDurationSeconds...maximumDurationSeconds).contains(seconds) else {
                throw .validation("duration_seconds: must be from 1 to \(maximumDurationSeconds)")
            }
            return .after(milliseconds: Int64(seconds) * 1_000)
        case (nil, nil): throw .validation("ends_at: give it or duration_seconds")
        case (_?, _?): throw .validation("ends_at: give it or duration_seconds, not both")
        }
    }

    private static func imageURLs(_ urls: [String]) throws(APIError) -> [String] {
        guard urls.count <= 10 else { throw .validation("image_urls: at most 10") }
        for url in urls {
            guard url.hasPrefix("https://"), url.utf8.count <= 2_000,
                url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !#","\"#.utf8.contains($0) })
            else { throw .validation("image_urls: each must be an https:// address") }
        }
        return urls
    }

    // MARK: Read

    func get(_ request: Request, _ context: AppContext) async throws -> Response {
        let id = try Self.auctionID(context)
        let record = try await services.pool.run { connection throws(DatabaseError) in
            try AuctionRecords.find(connection, id)
        }
        guard let record else { throw APIError.notFound("auction") }
        let viewers = await services.viewers.count(of: id.text)
        return .json {
            Self.write(record, to: &$0)
            $0.key("viewer_count")
            if let viewers { $0.raw("\(viewers)") } else { $0.null() }
        }
    }

    func list(_ request: Request, _ context: AppContext) async throws -> Response {
        let query = request.uri.queryParameters
        var listing = AuctionListing()
        if let text = query["status"] {
            guard let status = AuctionStatus(rawValue: String(text)) else {
                throw APIError.validation("status: must be one of scheduled, active, sold, unsold, cancelled")
            }
            listing.status = status
        }
        if let text = query["sort"] {
            guard let order = AuctionListing.Order(rawValue: String(text)) else {
                throw APIError.validation("sort: must be ending_soon, trending or newest")
            }
            listing.order = order
        }
        for text in [query["category"], query["q"]] {
            guard text?.unicodeScalars.contains("\0") != true else {
                throw APIError.validation("q: holds a NUL")
            }
        }
        listing.category = query["category"].map(String.init)
        listing.text = query["q"].map(String.init)
        let limit = try Self.number("limit", request, default: 20, in: 1...Self.pageLimit)
        listing.offset = try Self.number("cursor", request, default: 0, in: 0...1_000_000)
        listing.limit = limit + 1
        let page = listing
        let records = try await services.pool.run { connection throws(DatabaseError) in
            try AuctionRecords.list(connection, page)
        }
        return .json { writer in
            writer.key("auctions")
            writer.array { writer in
                for record in records.prefix(limit) { writer.object { Self.write(record, to: &$0) } }
            }
            writer.field("next_cursor", records.count > limit ? "\(page.offset + limit)" : nil)
        }
    }

    // MARK: Shared

    static func auctionID(_ context: AppContext) throws -> AuctionID {
        guard let id = AuctionID(try context.parameters.require("id")) else {
            throw APIError.notFound("auction")
        }
        return id
    }

    static func number(
        _ name: String, _ request: Request, default fallback: Int, in range: ClosedRange<Int>
    ) throws(APIError) -> Int {
        guard let text = request.uri.queryParameters[Substring(name)] else { return fallback }
        guard let number = Int(text), range.contains(number) else {
            throw .validation("\(name): must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private static func write(_ record: AuctionRecord, to writer: inout JSONWriter) {
        let auction = record.auction
        writer.field("auction_id", auction.id.text)
        writer.field("seq", auction.sequence)
        writer.field("seller", record.seller)
        writer.field("description", record.description)
        writer.field("category", record.category)
        writer.key("image_urls")
        writer.array { for url in record.imageURLs { $0.string(url) } }
        writer.field("starts_at", record.startsAt)
        writer.field("buy_now_price", auction.buyNowPrice)
        let left = auction.endsAt.milliseconds - record.readAt.milliseconds
        writer.field("time_remaining_seconds", auction.status == .active ? Int(max(0, left) / 1_000) : 0)
        auction.state.writeFields(to: &writer)
    }
}
