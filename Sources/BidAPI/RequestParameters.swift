// The parameters in a request's path and query.

import AuctionEvents
import AuctionStore
import Hummingbird
import Wire

extension AppContext {
    /// The auction that the address names.
    var auctionID: AuctionID {
        get throws(APIError) {
            guard let id = idInPath.flatMap({ AuctionID($0) }) else { throw .notFound("auction") }
            return id
        }
    }

    /// The id that the address names, percent-decoded; `nil` when it cannot be decoded.
    var idInPath: String? {
        parameters.get("id").flatMap { PercentEncoding.decoded($0[...].utf8) }
    }
}

extension Request {
    /// A parameter of the query; `nil` when it is missing.
    /// - Parameter mayBeEmpty: true when an empty value counts as missing. Otherwise an empty value is
    ///   refused, because it is not an allowed value.
    func parameter(_ name: String, mayBeEmpty: Bool = false) throws(APIError) -> String? {
        guard let text = uri.queryParameters[Substring(name)] else { return nil }
        guard !text.isEmpty else {
            guard mayBeEmpty else { throw .validation("\(name): must not be empty") }
            return nil
        }
        guard text.unicodeScalars.count <= 256, !text.utf8.contains(0) else {
            throw .validation("\(name): must be at most 256 characters and no NUL")
        }
        return String(text)
    }

    func number<Number: FixedWidthInteger>(
        _ name: String, default fallback: Number, in range: ClosedRange<Number>, mayBeEmpty: Bool = false
    ) throws(APIError) -> Number {
        guard let text = try parameter(name, mayBeEmpty: mayBeEmpty) else { return fallback }
        guard let number = Number(text), range.contains(number), "\(number)" == text else {
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
            guard let text = try parameter("cursor", mayBeEmpty: true) else { return nil }
            guard let cursor = PageCursor(text) else {
                throw .validation("cursor: must be a next_cursor of the same list")
            }
            return cursor
        }
    }

    /// Where a page of numbered rows begins: below this number.
    var numberCursor: Int64 {
        get throws(APIError) {
            try number("cursor", default: .max, in: 1...999_999_999_999_999_999, mayBeEmpty: true)
        }
    }
}
