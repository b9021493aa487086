// The plain HTTP answers of the gateway: error objects, pages, metrics. Each is built once as bytes and sent
// whole.

package enum HTTPStatus: Int, Sendable {
    case ok = 200
    case noContent = 204
    case notModified = 304
    case badRequest = 400
    case unauthorized = 401
    case forbidden = 403
    case notFound = 404
    case methodNotAllowed = 405
    case requestTimeout = 408
    case contentTooLarge = 413
    case targetTooLong = 414
    case upgradeRequired = 426
    case tooManyRequests = 429
    case headTooLarge = 431
    case serviceUnavailable = 503

    var reason: String {
        switch self {
        case .ok: "OK"
        case .noContent: "No Content"
        case .notModified: "Not Modified"
        case .badRequest: "Bad Request"
        case .unauthorized: "Unauthorized"
        case .forbidden: "Forbidden"
        case .notFound: "Not Found"
        case .methodNotAllowed: "Method Not Allowed"
        case .requestTimeout: "Request Timeout"
        case .contentTooLarge: "Content Too Large"
        case .targetTooLong: "URI Too Long"
        case .upgradeRequired: "Upgrade Required"
        case .tooManyRequests: "Too Many Requests"
        case .headTooLarge: "Request Header Fields Too Large"
        case .serviceUnavailable: "Service Unavailable"
        }
    }
}

/// Header fields in the order in which they are sent.
package typealias HTTPFields = [(name: String, value: String)]

package struct HTTPResponse: Sendable {
    package var status: HTTPStatus
    package var fields: HTTPFields
    package var body: [UInt8]
    /// False for an answer to HEAD whose GET would give a body of a length nobody knows yet.
    package var hasKnownLength = true

    package init(_ status: HTTPStatus, fields: HTTPFields = [], body: [UInt8] = []) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// Tells a client that waits for it to send its body (RFC 9110, 15.2.1).
    package static let goOn = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)

    /// The contract's error object.
    package static func error(
        _ status: HTTPStatus, _ code: String, _ message: String, fields: HTTPFields = []
    ) -> HTTPResponse {
        let body = #"{"error":"\#(code)","message":"\#(message)"}"# + "\n"
        return HTTPResponse(
            status, fields: [("Content-Type", "application/json")] + fields, body: Array(body.utf8))
    }

    /// The response's bytes.
    /// - Parameters:
    ///   - withBody: false for HEAD, which keeps the length.
    ///   - date: the present time, from ``HTTPDate``.
    package func encoded(keepAlive: Bool, withBody: Bool = true, date: String) -> [UInt8] {
        var text = "HTTP/1.1 \(status.rawValue) \(status.reason)\r\nDate: \(date)\r\n"
        for field in fields { text += "\(field.name): \(field.value)\r\n" }
        if status != .noContent, status != .notModified, hasKnownLength {
            text += "Content-Length: \(body.count)\r\n"
        }
        text += keepAlive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n"
        return Array(text.utf8) + (withBody ? body : [])
    }
}
