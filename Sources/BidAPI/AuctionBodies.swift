// The bodies with which sellers create and change auctions, and the checks that need no database. Every error
// begins with the field's name.

import AuctionEvents
import AuctionStore
import Bidding
import Foundation
import HTTPTypes

struct CreateAuctionBody: RequestBodyContent, Sendable {
    /// The bid increment where the seller names none: one unit of the currency.
    private static let defaultIncrement = Money(minorUnits: 1, decimals: 0)

    private let isPrivate: Bool
    private let currency: Currency
    private let terms: AuctionTerms
    private let startsAt: Timestamp?
    private let end: AuctionDraft.End
    private let description: String
    private let category: String
    private let imageURLs: [String]

    init(_ body: JSONBody) throws(APIError) {
        let title = try AuctionFields.title(try body.requiredText("title"))
        let startingPrice = try body.requiredAmount("starting_price")
        guard let currency = Currency(try body.text("currency") ?? "USD") else {
            throw .validation("currency: must be three capital letters (ISO 4217)")
        }
        self.currency = currency
        isPrivate = try AuctionFields.isPrivate(try body.text("visibility") ?? "public")
        let wanted = AuctionTerms(
            title: title, startingPrice: startingPrice, reservePrice: try body.amount("reserve_price"),
            buyNowPrice: try body.amount("buy_now_price"),
            increments: try AuctionFields.increments(body) ?? IncrementTable(fixed: Self.defaultIncrement))
        switch wanted.converted(to: currency) {
        case .failure(let excess): throw .excessDecimals(excess)
        case .success(let converted): terms = converted
        }
        if let fault = terms.fault { throw .terms(fault) }
        startsAt = try body.time("starts_at")
        guard let end = try AuctionFields.end(body) else {
            throw .validation("ends_at: give either ends_at or duration_seconds")
        }
        self.end = end
        description = try AuctionFields.description(body) ?? ""
        category = try AuctionFields.category(body) ?? ""
        imageURLs = try AuctionFields.imageURLs(body) ?? []
    }

    func draft(sellerID: String) -> AuctionDraft {
        AuctionDraft(
            id: .random(prefix: isPrivate ? AuctionID.privatePrefix : "auc_"), sellerID: sellerID,
            description: description, category: category, currency: currency, imageURLs: imageURLs,
            terms: terms, startsAt: startsAt, end: end)
    }
}

struct UpdateAuctionBody: RequestBodyContent, Sendable {
    let patch: AuctionPatch

    init(_ body: JSONBody) throws(APIError) {
        var patch = AuctionPatch()
        patch.currency = try body.text("currency")
        if let visibility = try body.text("visibility") {
            patch.isPrivate = try AuctionFields.isPrivate(visibility)
        }
        if let title = try body.text("title") { patch.title = try AuctionFields.title(title) }
        patch.description = try AuctionFields.description(body)
        patch.category = try AuctionFields.category(body)
        patch.imageURLs = try AuctionFields.imageURLs(body)
        patch.startingPrice = try body.amount("starting_price")
        patch.reservePrice = try Self.price("reserve_price", body)
        patch.buyNowPrice = try Self.price("buy_now_price", body)
        patch.increments = try AuctionFields.increments(body)
        patch.startsAt = try body.time("starts_at")
        patch.end = try AuctionFields.end(body)
        self.patch = patch
    }

    /// A price that may be left as it is, be removed by `null`, or changed.
    private static func price(_ name: String, _ body: JSONBody) throws(APIError) -> AuctionPatch.Price {
        if let amount = try body.amount(name) { return .set(amount) }
        return body.isNull(name) ? .set(nil) : .unchanged
    }
}

private enum AuctionFields {
    private static let secondsRange = 1...AuctionSchedule.maximumMilliseconds / 1_000

    static func title(_ title: String) throws(APIError) -> String {
        guard (1...200).contains(title.unicodeScalars.count) else {
            throw .validation("title: must be 1 to 200 characters")
        }
        guard title.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }) else {
            throw .validation("title: must have no control character")
        }
        guard title.unicodeScalars.contains(where: isVisible) else {
            throw .validation("title: must have a visible character")
        }
        return title
    }

    /// True when a character is visible on its own: not blank, not a combining mark, not of zero width.
    private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .spaceSeparator, .lineSeparator, .paragraphSeparator, .control, .format, .nonspacingMark,
            .enclosingMark, .surrogate, .privateUse, .unassigned:
            false
        // Hangul fillers and similar letters are invisible. So is the blank Braille pattern.
        default: !scalar.properties.isDefaultIgnorableCodePoint && scalar != "\u{2800}"
        }
    }

    static func description(_ body: JSONBody) throws(APIError) -> String? {
        try text("description", try body.text("description"), maximum: 20_000)
    }

    static func category(_ body: JSONBody) throws(APIError) -> String? {
        try text("category", try body.text("category"), maximum: 64)
    }

    private static func text(
        _ name: String, _ text: String?, maximum: Int
    ) throws(APIError) -> String? {
        guard let text else { return nil }
        guard text.unicodeScalars.count <= maximum else {
            throw .validation("\(name): must be at most \(maximum) characters")
        }
        guard !text.utf8.contains(0) else { throw .validation("\(name): must have no NUL") }
        return text
    }

    static func isPrivate(_ visibility: String) throws(APIError) -> Bool {
        switch visibility {
        case "public": return false
        case "private": return true
        default: throw .validation("visibility: must be public or private")
        }
    }

    static func increments(_ body: JSONBody) throws(APIError) -> IncrementTable? {
        switch (try body.amount("bid_increment"), try body.objects("increment_table")) {
        case (nil, nil): return nil
        case (let increment?, nil):
            guard increment.minorUnits > 0 else { throw .validation("bid_increment: must be above 0") }
            return IncrementTable(fixed: increment)
        case (nil, let objects?):
            var rows: [IncrementTable.Row] = []
            for object in objects {
                rows.append(
                    .init(
                        from: try object.requiredAmount("from"),
                        increment: try object.requiredAmount("increment")))
            }
            guard let table = IncrementTable(rows: rows) else {
                throw .validation(
                    "increment_table: 1 to \(IncrementTable.maximumRows) rows; from must rise from 0; increments must be above 0"
                )
            }
            return table
        case (_?, _?): throw .validation("bid_increment: give bid_increment or increment_table, not both")
        }
    }

    static func end(_ body: JSONBody) throws(APIError) -> AuctionDraft.End? {
        switch (try body.time("ends_at"), try body.integer("duration_seconds", in: secondsRange)) {
        case (nil, nil): return nil
        case (let time?, nil): return .at(time)
        case (nil, let seconds?): return .after(milliseconds: seconds * 1_000)
        case (_?, _?): throw .validation("ends_at: give ends_at or duration_seconds, not both")
        }
    }

    static func imageURLs(_ body: JSONBody) throws(APIError) -> [String]? {
        guard let urls = try body.texts("image_urls") else { return nil }
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
    static func excessDecimals(_ excess: ExcessDecimals) -> APIError {
        let code = excess.currency.code
        let rule =
            switch excess.currency.decimals {
            case 0: "\(code) has no decimals"
            case 1: "\(code) has one decimal"
            case let decimals: "\(code) has \(decimals) decimals"
            }
        let decimals = excess.currency.decimals
        let most = Money(minorUnits: Money.maximumUnits(decimals: decimals), decimals: decimals)
        return .validation("\(excess.member): must be an amount up to \(most), and \(rule)")
    }

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
        case .excessDecimals(let excess): .excessDecimals(excess)
        case .user(let refusal): .refusal(refusal)
        case .rule(.notSeller):
            APIError(status: .forbidden, code: "FORBIDDEN", message: "this auction is another seller's")
        case .rule(.hasBids): .conflict("HAS_BIDS", "the auction has bids: it cannot be changed or cancelled")
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
        case .notAdmin: APIError(status: .forbidden, code: "FORBIDDEN", message: "this needs the admin role")
        }
    }
}
