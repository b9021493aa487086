// What sellers send of an auction, and the checks that need no database. Every error begins with the field's
// name.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import HTTPTypes

struct IncrementRowBody: Decodable, Sendable {
    let from: MoneyField
    let increment: MoneyField
}

struct CreateAuctionBody: Decodable, Sendable {
    let title: String
    let description: String?
    let category: String?
    let currency: String?
    let starting_price: MoneyField
    let reserve_price: MoneyField?
    let buy_now_price: MoneyField?
    let bid_increment: MoneyField?
    let increment_table: [IncrementRowBody]?
    let starts_at: TimeField?
    let ends_at: TimeField?
    let duration_seconds: Int?
    let image_urls: [String]?
    let visibility: String?

    func draft(sellerID: String) throws(APIError) -> AuctionDraft {
        let currency = currency ?? "USD"
        guard currency.utf8.count == 3, currency.utf8.allSatisfy({ (65...90).contains($0) }) else {
            throw .validation("currency: must be three capital letters (ISO 4217)")
        }
        let isPrivate = try AuctionFields.isPrivate(visibility ?? "public")
        let increments = try AuctionFields.increments(bid_increment, increment_table)
        let terms = AuctionTerms(
            title: try AuctionFields.title(title), startingPrice: starting_price.money,
            reservePrice: reserve_price?.money, buyNowPrice: buy_now_price?.money,
            increments: increments ?? IncrementTable(fixed: Money(cents: 100)))
        if let fault = terms.fault { throw .terms(fault) }
        guard let end = try AuctionFields.end(ends_at, duration_seconds) else {
            throw .validation("ends_at: give it or duration_seconds")
        }
        return AuctionDraft(
            id: .random(prefix: isPrivate ? AuctionID.privatePrefix : "auc_"), sellerID: sellerID,
            description: try AuctionFields.text("description", description ?? "", maximumBytes: 20_000),
            category: try AuctionFields.text("category", category ?? "", maximumBytes: 64),
            currency: currency, imageURLs: try AuctionFields.imageURLs(image_urls ?? []), terms: terms,
            startsAt: starts_at?.time, end: end)
    }
}

/// A price that may be left as it is, be removed by `null`, or changed.
enum PriceChange: Decodable, Sendable {
    case absent
    case none
    case price(MoneyField)

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        self = container.decodeNil() ? .none : .price(try container.decode(MoneyField.self))
    }

    var patch: AuctionPatch.Price {
        switch self {
        case .absent: .unchanged
        case .none: .set(nil)
        case .price(let field): .set(field.money)
        }
    }
}

extension KeyedDecodingContainer {
    /// What the compiler's `init(from:)` calls for a member of this type: a missing key is no error.
    func decode(_ type: PriceChange.Type, forKey key: Key) throws -> PriceChange {
        contains(key) ? try PriceChange(from: superDecoder(forKey: key)) : .absent
    }
}

struct UpdateAuctionBody: Decodable, Sendable {
    let title: String?
    let description: String?
    let category: String?
    let starting_price: MoneyField?
    let reserve_price: PriceChange
    let buy_now_price: PriceChange
    let bid_increment: MoneyField?
    let increment_table: [IncrementRowBody]?
    let starts_at: TimeField?
    let ends_at: TimeField?
    let duration_seconds: Int?
    let image_urls: [String]?
    let currency: String?
    let visibility: String?

    func patch() throws(APIError) -> AuctionPatch {
        var patch = AuctionPatch()
        patch.currency = currency
        if let visibility { patch.isPrivate = try AuctionFields.isPrivate(visibility) }
        if let title { patch.title = try AuctionFields.title(title) }
        if let description {
            patch.description = try AuctionFields.text("description", description, maximumBytes: 20_000)
        }
        if let category { patch.category = try AuctionFields.text("category", category, maximumBytes: 64) }
        if let image_urls { patch.imageURLs = try AuctionFields.imageURLs(image_urls) }
        patch.startingPrice = starting_price?.money
        patch.reservePrice = reserve_price.patch
        patch.buyNowPrice = buy_now_price.patch
        patch.increments = try AuctionFields.increments(bid_increment, increment_table)
        patch.startsAt = starts_at?.time
        patch.end = try AuctionFields.end(ends_at, duration_seconds)
        return patch
    }
}

private enum AuctionFields {
    private static let maximumSeconds = Int(AuctionSchedule.maximumMilliseconds / 1_000)

    static func title(_ title: String) throws(APIError) -> String {
        guard (1...200).contains(title.count), title.utf8.count <= 2_000 else {
            throw .validation("title: must be 1 to 200 characters")
        }
        return try text("title", title, maximumBytes: 2_000)
    }

    static func text(_ name: String, _ text: String, maximumBytes: Int) throws(APIError) -> String {
        guard text.utf8.count <= maximumBytes else { throw .validation("\(name): is too long") }
        guard !text.utf8.contains(0) else { throw .validation("\(name): holds a NUL") }
        return text
    }

    static func isPrivate(_ visibility: String) throws(APIError) -> Bool {
        switch visibility {
        case "public": return false
        case "private": return true
        default: throw .validation("visibility: must be public or private")
        }
    }

    static func increments(
        _ fixed: MoneyField?, _ rows: [IncrementRowBody]?
    ) throws(APIError) -> IncrementTable? {
        switch (fixed, rows) {
        case (nil, nil): return nil
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

    static func end(_ time: TimeField?, _ seconds: Int?) throws(APIError) -> AuctionDraft.End? {
        switch (time, seconds) {
        case (nil, nil): return nil
        case (let time?, nil): return .at(time.time)
        case (nil, let seconds?):
            guard (1...maximumSeconds).contains(seconds) else {
                throw .validation("duration_seconds: must be from 1 to \(maximumSeconds)")
            }
            return .after(milliseconds: Int64(seconds) * 1_000)
        case (_?, _?): throw .validation("ends_at: give it or duration_seconds, not both")
        }
    }

    static func imageURLs(_ urls: [String]) throws(APIError) -> [String] {
        guard urls.count <= 10 else { throw .validation("image_urls: at most 10") }
        for url in urls {
            guard url.hasPrefix("https://"), url.utf8.count <= 2_000,
                url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !#","\"#.utf8.contains($0) })
            else { throw .validation("image_urls: each must be an https:// address") }
        }
        return urls
    }
}

extension APIError {
    static func terms(_ fault: AuctionTerms.Fault) -> APIError {
        switch fault {
        case .noStartingPrice: .validation("starting_price: must be above 0")
        case .reserveBelowStart: .validation("reserve_price: is below starting_price")
        case .buyNowNotAboveStart: .validation("buy_now_price: must be above starting_price")
        case .buyNowBelowReserve: .validation("buy_now_price: is below reserve_price")
        }
    }

    static func schedule(_ fault: AuctionSchedule.Fault) -> APIError {
        switch fault {
        case .endsBeforeStart: .validation("ends_at: must be after the start and in the future")
        case .startsInThePast: .validation("starts_at: is in the past")
        case .startsTooLate: .validation("starts_at: is more than a year ahead")
        case .tooLong: .validation("ends_at: an auction lasts at most 90 days")
        }
    }

    static func refusal(_ refusal: AuctionChanges.Refusal) -> APIError {
        switch refusal {
        case .unknownAuction: .notFound("auction")
        case .hasStarted: .validation("starts_at: the auction has started")
        case .fixed(let member): .validation("\(member): cannot be changed")
        case .user(let refusal): .refusal(refusal)
        case .rule(.notSeller):
            APIError(status: .forbidden, code: "FORBIDDEN", message: "this auction is another seller's")
        case .rule(.hasBids): .conflict("HAS_BIDS", "the auction has bids and stays as it is")
        case .rule(.ended(let winner)): .refusal(BidRefusal.ended(winner: winner))
        case .rule(.endNotLater): .validation("ends_at: must be later than the present end")
        case .rule(.terms(let fault)): .terms(fault)
        case .rule(.schedule(let fault)): .schedule(fault)
        }
    }

    static func refusal(_ refusal: UserRecords.Refusal) -> APIError {
        switch refusal {
        case .unknown: .unauthorized
        case .banned: .banned
        case .notAdmin: APIError(status: .forbidden, code: "FORBIDDEN", message: "this needs the role admin")
        }
    }
}
