// The bodies callers send, decoded strictly: what is missing or of the wrong type is named in the error.

import AuctionEvents
import Foundation
import Hummingbird

/// Money in a body: a JSON number with at most two decimals.
struct MoneyField: Decodable, Sendable {
    let money: Money

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        // Decimal keeps the digits as they were written.
        let decimal = try container.decode(Decimal.self)
        guard let money = Money(text: "\(decimal)") else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "must be an amount from 0 to 999999999999.99 with at most two decimals")
        }
        self.money = money
    }
}

struct TimeField: Decodable, Sendable {
    let time: Timestamp

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let time = Timestamp(text: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "must be a time such as 2026-01-10T19:30:00.000Z")
        }
        self.time = time
    }
}

struct RegisterBody: Decodable, Sendable {
    let username: String
    let email: String
    let password: String
}

struct LoginBody: Decodable, Sendable {
    let username: String?
    let email: String?
    let password: String
}

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
}

struct BidBody: Decodable, Sendable {
    let amount: MoneyField
    let max_amount: MoneyField?
}

struct ProxyBody: Decodable, Sendable {
    let max_amount: MoneyField
}

enum RequestBodies {
    /// The largest body, in bytes.
    static let maximumBytes = 65_536

    static func decode<Body: Decodable>(_ type: Body.Type, from request: Request) async throws -> Body {
        try await read(type, from: request).body
    }

    /// The body, and the text it was sent as.
    static func read<Body: Decodable>(
        _ type: Body.Type, from request: Request
    ) async throws -> (body: Body, text: String) {
        let mediaType = request.headers[.contentType]?.split(separator: ";").first.map { $0.lowercased() }
        guard mediaType == nil || mediaType == "application/json" else {
            throw APIError(
                status: .unsupportedMediaType, code: "UNSUPPORTED_MEDIA_TYPE",
                message: "send application/json")
        }
        let bytes = try await request.body.collect(upTo: maximumBytes)
        do {
            let data = Data(bytes.readableBytesView)
            return (try JSONDecoder().decode(type, from: data), String(decoding: data, as: UTF8.self))
        } catch let error as DecodingError {
            throw APIError.validation(describe(error))
        }
    }

    private static func describe(_ error: DecodingError) -> String {
        func path(_ keys: [any CodingKey]) -> String {
            keys.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        }
        switch error {
        case .keyNotFound(let key, let context): return "\(path(context.codingPath + [key])): is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            guard !context.codingPath.isEmpty else { return "the body must be a JSON object" }
            return "\(path(context.codingPath)): has the wrong type"
        case .dataCorrupted(let context):
            guard !context.codingPath.isEmpty else { return "the body is no valid JSON" }
            return "\(path(context.codingPath)): \(context.debugDescription)"
        @unknown default: return "the body cannot be read"
        }
    }
}
