// What callers send: the body as text, and the members of the small bodies.

import AuctionEvents
import AuctionStore
import Foundation
import HTTPTypes
import Hummingbird

/// A body that can be read from the members of an object.
protocol RequestBodyContent {
    init(_ body: JSONBody) throws(APIError)
}

struct RegisterBody: RequestBodyContent, Sendable {
    let username: String
    let email: String
    let password: String

    init(_ body: JSONBody) throws(APIError) {
        username = try body.requiredText("username")
        email = try body.requiredText("email")
        password = try body.requiredText("password")
    }
}

struct LoginBody: RequestBodyContent, Sendable {
    /// A user name or an email address.
    let login: String
    let password: String

    init(_ body: JSONBody) throws(APIError) {
        let (username, email) = (try body.text("username"), try body.text("email"))
        guard let login = username ?? email else {
            throw .validation("username: username or email is required")
        }
        self.login = login
        password = try body.requiredText("password")
    }
}

struct BidBody: RequestBodyContent, Sendable {
    let amount: Money
    let maximum: Money?

    init(_ body: JSONBody) throws(APIError) {
        amount = try body.requiredAmount("amount")
        maximum = try body.amount("max_amount")
    }
}

struct ProxyBody: RequestBodyContent, Sendable {
    let maximum: Money

    init(_ body: JSONBody) throws(APIError) {
        maximum = try body.requiredAmount("max_amount")
    }
}

/// `{amount?}`: the price that the buyer agrees to.
struct BuyBody: RequestBodyContent, Sendable {
    let amount: Money?

    init(_ body: JSONBody) throws(APIError) {
        amount = try body.amount("amount")
    }
}

/// `{action: cancel|extend, reason?, ends_at? | seconds?}`
struct AdministerBody: RequestBodyContent, Sendable {
    enum Action: Sendable {
        case cancel
        case extend(EndExtension)
    }

    private static let secondsRange: ClosedRange<Int64> = 1...7_776_000

    let action: Action
    let reason: String

    init(_ body: JSONBody) throws(APIError) {
        reason = try RequestBodies.reason(try body.text("reason"))
        let (end, seconds) = (try body.time("ends_at"), try body.integer("seconds", in: Self.secondsRange))
        switch try body.requiredText("action") {
        case "cancel": action = .cancel
        case "extend":
            switch (end, seconds) {
            case (let time?, nil): action = .extend(.to(time))
            case (nil, let seconds?): action = .extend(.by(milliseconds: seconds * 1_000))
            default: throw .validation("ends_at: give either ends_at or seconds")
            }
        default: throw .validation("action: must be cancel or extend")
        }
    }
}

struct BanBody: RequestBodyContent, Sendable {
    let reason: String
    /// False lifts a ban.
    let banned: Bool

    init(_ body: JSONBody) throws(APIError) {
        reason = try RequestBodies.reason(try body.text("reason"))
        banned = try body.boolean("banned") ?? true
    }
}

enum RequestBodies {
    static func decode<Body: RequestBodyContent>(
        _ type: Body.Type, from request: Request
    ) async throws -> Body {
        try await read(type, from: request).body
    }

    /// The body, or `nil` when there is none and none is needed.
    static func decode<Body: RequestBodyContent>(
        _ type: Body.Type, from request: Request, isOptional: Bool
    ) async throws -> Body? {
        guard !isOptional || hasBody(request) else { return nil }
        return try await decode(type, from: request)
    }

    static func hasBody(_ request: Request) -> Bool {
        request.headers[.contentLength] ?? "0" != "0" || request.headers[.transferEncoding] != nil
    }

    /// True for a request whose answer ``BidRoutes`` keeps.
    static func takesIdempotencyKey(_ request: Request) -> Bool {
        let last = request.uri.path.split(separator: "/").last
        return last == "bids" || last == "proxy" || last == "buy-now"
    }

    /// Checks an administrator's reason for an action. The audit log keeps it.
    static func reason(_ text: String?) throws(APIError) -> String {
        let text = text ?? ""
        guard text.unicodeScalars.count <= 1_000, !text.utf8.contains(0) else {
            throw .validation("reason: must be at most 1000 characters, without NUL")
        }
        return text
    }

    /// The body, and the text it was sent as.
    static func read<Body: RequestBodyContent>(
        _ type: Body.Type, from request: Request
    ) async throws -> (body: Body, text: String) {
        let mediaType = request.headers[.contentType]?.split(separator: ";").first.map {
            $0.lowercased().filter { !$0.isWhitespace }
        }
        guard mediaType == nil || mediaType == "application/json" else {
            throw APIError(
                status: .unsupportedMediaType, code: "UNSUPPORTED_MEDIA_TYPE",
                message: "Content-Type must be application/json")
        }
        let bytes: ByteBuffer
        do {
            bytes = try await request.body.collect(upTo: Limits.bodyBytes)
        } catch let error as any HTTPResponseError {
            throw error
        } catch {
            throw APIError.validation("the body did not arrive")
        }
        // JSON between systems is UTF-8 (RFC 8259, 8.1).
        guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
            throw APIError.validation("the body is not UTF-8")
        }
        return (try type.init(try JSONBody(text: text)), text)
    }
}
