// Each request has an id, which its answer carries and its log lines name.

import HTTPTypes
import Hummingbird
import Logging

struct RequestIDMiddleware: RouterMiddleware {
    func handle(
        _ request: Request, context: AppContext,
        next: (Request, AppContext) async throws -> Response
    ) async throws -> Response {
        let arrival = ContinuousClock.now
        var response = try await next(request, context)
        response.headers[.requestID] = context.id
        context.logger.log(
            level: response.status.code >= 500 ? .warning : .debug, "request",
            metadata: [
                "method": "\(request.method)", "path": "\(request.uri.path)",
                "status": "\(response.status.code)",
                "milliseconds": "\((ContinuousClock.now - arrival) / .milliseconds(1))",
            ])
        return response
    }
}

extension HTTPField.Name {
    static let requestID = HTTPField.Name("X-Request-Id")!
}
