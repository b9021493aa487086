// The bodies callers send, decoded strictly: what is missing or of the wrong type is named in the error.

import AuctionEvents
import AuctionStore
import Foundation
import HTTPTypes
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

struct BidBody: Decodable, Sendable {
    let amount: MoneyField
    let max_amount: MoneyField?
}

struct ProxyBody: Decodable, Sendable {
    let max_amount: MoneyField
}

/// `{action: cancel|extend, reason?, ends_at? | seconds?}`
struct AdministerBody: Decodable, Sendable {
    let action: String
    let reason: String?
    let ends_at: TimeField?
    let seconds: Int?

    var checkedReason: String {
        get throws(APIError) { try RequestBodies.reason(reason) }
    }

    var `extension`: EndExtension {
        get throws(APIError) {
            switch (ends_at, seconds) {
            case (let time?, nil): return .to(time.time)
            case (nil, let seconds?):
                guard (1...7_776_000).contains(seconds) else {
                    throw .validation("seconds: must be from 1 to 7776000")
                }
                return .by(milliseconds: Int64(seconds) * 1_000)
            default: throw .validation("ends_at: give it or seconds")
            }
        }
    }
}

struct BanBody: Decodable, Sendable {
    let reason: String?
    /// False lifts a ban.
    let banned: Bool?
}

enum RequestBodies {
    static func decode<Body: Decodable>(_ type: Body.Type, from request: Request) async throws -> Body {
        try await read(type, from: request).body
    }

    /// The body, or `nil` when there is none and none is needed.
    static func decode<Body: Decodable>(
        _ type: Body.Type, from request: Request, isOptional: Bool
    ) async throws -> Body? {
        if isOptional, request.headers[.contentLength] ?? "0" == "0",
            request.headers[.transferEncoding] == nil
        {
            return nil
        }
        return try await decode(type, from: request)
    }

    /// Why an administrator acts, which is kept.
    static func reason(_ text: String?) throws(APIError) -> String {
        let text = text ?? ""
        guard text.utf8.count <= 1_000, !text.utf8.contains(0) else {
            throw .validation("reason: must be at most 1000 bytes and no NUL")
        }
        return text
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
        let bytes: ByteBuffer
        do {
            bytes = try await request.body.collect(upTo: Limits.bodyBytes)
        } catch let error as any HTTPResponseError {
            throw error
        } catch {
            throw APIError.validation("the body did not arrive")
        }
        // JSON between systems is UTF-8 (RFC 8259, 8.1); the decoder would guess other forms.
        guard let text = String(validating: bytes.readableBytesView, as: UTF8.self), !text.utf8.contains(0)
        else {
            throw APIError.validation("the body is no valid JSON in UTF-8")
        }
        do {
            return (try JSONDecoder().decode(type, from: Data(text.utf8)), text)
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
