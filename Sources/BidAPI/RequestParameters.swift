// What stands in a request's address.

import AuctionEvents
import AuctionStore
import Hummingbird

extension AppContext {
    /// The auction that the address names.
    var auctionID: AuctionID {
        get throws(APIError) {
            guard let id = parameters.get("id").flatMap({ AuctionID($0) }) else { throw .notFound("auction") }
            return id
        }
    }
}

extension Request {
    /// A parameter of the query; `nil` when it is missing or empty.
    func parameter(_ name: String) throws(APIError) -> String? {
        guard let text = uri.queryParameters[Substring(name)], !text.isEmpty else { return nil }
        guard text.utf8.count <= 256, !text.utf8.contains(0) else {
            throw .validation("\(name): must be at most 256 characters and no NUL")
        }
        return String(text)
    }

    func number<Number: FixedWidthInteger>(
        _ name: String, default fallback: Number, in range: ClosedRange<Number>
    ) throws(APIError) -> Number {
        guard let text = try parameter(name) else { return fallback }
        guard let number = Number(text), range.contains(number) else {
            throw .validation("\(name): must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Rows of a page.
    var limit: Int {
        get throws(APIError) { try number("limit", default: Limits.pageRows, in: Limits.pageRowsRange) }
    }

    /// Where a page begins.
    var pageCursor: PageCursor? {
        get throws(APIError) {
            guard let text = try parameter("cursor") else { return nil }
            guard let cursor = PageCursor(text) else {
                throw .validation("cursor: must be a next_cursor of the same list")
            }
            return cursor
        }
    }

    /// Where a page of numbered rows begins: below this number.
    var numberCursor: Int64 {
        get throws(APIError) { try number("cursor", default: .max, in: 1...Int64.max) }
    }
}
