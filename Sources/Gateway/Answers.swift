// HTTP answers that several rooms give.

import Wire

extension HTTPResponse {
    static let notFound = HTTPResponse.error(.notFound, "NOT_FOUND", "there is nothing at this address")

    static func methodNotAllowed(allow: String) -> HTTPResponse {
        .error(
            .methodNotAllowed, "METHOD_NOT_ALLOWED", "allowed methods: \(allow)", fields: [("Allow", allow)])
    }

    /// What a request gets that cannot be served now.
    static func comeBack(afterMilliseconds milliseconds: Int) -> HTTPResponse {
        .error(
            .serviceUnavailable, "UNAVAILABLE", "the gateway cannot answer now; try again later",
            fields: [("Retry-After", "\((milliseconds + 999) / 1_000)")])
    }
}
