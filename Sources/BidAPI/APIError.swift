// The errors that a caller sees. Defines the contract's codes and statuses, and maps every other thrown error
// to one of them.

import AuctionEvents
import AuctionStore
import Bidding
import HTTPTypes
import Hummingbird
import Logging

struct APIError: Error {
    let status: HTTPResponse.Status
    let code: String
    let message: String
    /// Writes further members into the error object, which is open in the writer.
    var details: (@Sendable (inout JSONWriter) -> Void)?
    var retryAfterSeconds: Int?

    static func validation(_ message: String) -> APIError {
        APIError(status: .badRequest, code: "VALIDATION_ERROR", message: message)
    }
    static let wrongCredentials = APIError(
        status: .unauthorized, code: "UNAUTHORIZED", message: "the name or the password is wrong")
    static let unauthorized = APIError(
        status: .unauthorized, code: "UNAUTHORIZED",
        message: "a valid token is needed: Authorization: Bearer …")
    static func notFound(_ what: String) -> APIError {
        APIError(status: .notFound, code: "NOT_FOUND", message: "there is no such \(what)")
    }
    static func conflict(_ code: String, _ message: String) -> APIError {
        APIError(status: .conflict, code: code, message: message)
    }
    static func rateLimited(retryAfterSeconds: Int) -> APIError {
        APIError(
            status: .tooManyRequests, code: "RATE_LIMITED",
            message: "too many requests; try again in \(retryAfterSeconds) s",
            retryAfterSeconds: retryAfterSeconds)
    }
    static let banned = APIError(status: .forbidden, code: "BANNED", message: "this user is banned")
    /// PostgreSQL does not answer, or the answer was lost.
    /// - Parameter request: decides what the message may promise.
    static func busy(_ request: Request) -> APIError {
        let message =
            switch request.method {
            case .get, .head: "the database does not answer; try again"
            case .post where RequestBodies.takesIdempotencyKey(request):
                "the outcome is unknown: repeat with the same Idempotency-Key, or check first"
            default: "the outcome is unknown: check before you repeat the request"
            }
        return APIError(
            status: .serviceUnavailable, code: "BUSY", message: message, retryAfterSeconds: 1)
    }
    /// The queue of passwords to hash is full.
    static let tooManyPasswords = APIError(
        status: .serviceUnavailable, code: "BUSY", message: "too many sign-ins at once; try again",
        retryAfterSeconds: 1)
    /// A row was written by a newer version of this program.
    static let unreadable = APIError(
        status: .serviceUnavailable, code: "BUSY",
        message: "a newer version of the service wrote this record; try again", retryAfterSeconds: 1)
    static let internalFailure = APIError(
        status: .internalServerError, code: "INTERNAL", message: "internal server error; it has been logged")

    static func refusal(_ refusal: BidRefusal) -> APIError {
        switch refusal {
        case .notStarted: .conflict("NOT_STARTED", "the auction has not started")
        case .ended(let winner):
            APIError(status: .gone, code: "AUCTION_ENDED", message: "the auction is over") {
                $0.field("winner", winner)
            }
        case .ownAuction: APIError(status: .forbidden, code: "SELF_BID", message: "this auction is your own")
        case .alreadyHighest: .conflict("ALREADY_HIGHEST", "your bid is the highest already")
        case .notForSale: .validation("auction_id: this auction has no buy-now price")
        case .priceChanged(let buyNowPrice):
            APIError(
                status: .conflict, code: "PRICE_CHANGED", message: "the buy-now price is \(buyNowPrice)"
            ) { $0.field("buy_now_price", buyNowPrice) }
        case .excessDecimals(let excess): .excessDecimals(excess)
        case .tooLow(let currentPrice, let minimum):
            APIError(status: .conflict, code: "BID_TOO_LOW", message: "bid \(minimum) or more") {
                $0.field("current_price", currentPrice)
                $0.field("minimum_bid", minimum)
            }
        }
    }

    /// The error object.
    var body: String {
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("error", code)
            writer.field("message", message)
            details?(&writer)
        }
        return writer.text
    }

    var response: Response {
        var response = Response.json(status, text: body)
        if let retryAfterSeconds { response.headers[.retryAfter] = "\(retryAfterSeconds)" }
        return response
    }
}

extension APIError {
    init(
        status: HTTPResponse.Status, code: String, message: String,
        details: @escaping @Sendable (inout JSONWriter) -> Void
    ) {
        self.init(status: status, code: code, message: message, details: details, retryAfterSeconds: nil)
    }
}

extension Response {
    /// A JSON object.
    static func json(_ status: HTTPResponse.Status = .ok, _ body: (inout JSONWriter) -> Void) -> Response {
        var writer = JSONWriter()
        writer.object(body)
        return json(status, text: writer.text)
    }

    /// Declares that the answer may lack what was committed in the last `age` milliseconds.
    func declaring(ageMilliseconds age: Int64) -> Response {
        var response = self
        response.headers[.dataAge] = "\(age / 1_000).\(String(age % 1_000 + 1_000).dropFirst())"
        return response
    }

    /// A JSON object that is text already.
    static func json(_ status: HTTPResponse.Status, text: String) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}

/// Turns whatever is thrown into the contract's error object.
struct ErrorMiddleware: RouterMiddleware {
    let routes: RouteTable
    let unreadable: UnreadableRows

    func handle(
        _ request: Request, context: AppContext, next: (Request, AppContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as APIError {
            return error.response
        } catch let error as DatabaseError {
            switch error {
            case .unavailable: return APIError.busy(request).response
            case .unreadable(let what):
                unreadable.note(what)
                return APIError.unreadable.response
            case .conflict, .refused: break
            }
            context.logger.error("database error", metadata: ["error": "\(error)"])
            return APIError.internalFailure.response
        } catch let error as any HTTPResponseError {
            return response(to: error, request)
        } catch {
            context.logger.error("unexpected error", metadata: ["error": "\(error)"])
            return APIError.internalFailure.response
        }
    }

    /// What the library itself refuses: unknown addresses, bodies over the limit, malformed parameters.
    private func response(to error: any HTTPResponseError, _ request: Request) -> Response {
        switch error.status {
        case .notFound:
            // The library also reports "not found" when the address exists but does not take the method.
            guard let allowed = routes.allowed(at: request.uri.path) else {
                return APIError.notFound("address").response
            }
            var response = APIError(
                status: .methodNotAllowed, code: "METHOD_NOT_ALLOWED", message: "allowed methods: \(allowed)"
            ).response
            response.headers[.allow] = allowed
            return response
        case .contentTooLarge:
            return APIError(
                status: .contentTooLarge, code: "CONTENT_TOO_LARGE", message: "the body is too large"
            ).response
        default:
            return APIError(
                status: error.status, code: "VALIDATION_ERROR", message: error.status.reasonPhrase
            )
            .response
        }
    }
}

extension HTTPField.Name {
    static let dataAge = HTTPField.Name("Gavelcast-Data-Age")!
}
