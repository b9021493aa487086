// The bid API's admin listener: health, readiness, metrics.

import AuctionStore
import Hummingbird
import Settings
import Telemetry

struct AdminRoutes: Sendable {
    let services: Services

    func router() -> Router<AppContext> {
        var table = RouteTable()
        table.add("/healthz", [(.get, { _, _ in Self.text("alive\n") })])
        table.add("/readyz", [(.get, ready)])
        table.add("/metrics", [(.get, metrics)])
        let router = Router(context: AppContext.self)
        router.add(middleware: HeadMiddleware())
        router.add(middleware: ErrorMiddleware(routes: table, unreadable: services.unreadable))
        router.add(middleware: NoBrowserMiddleware())
        table.register(on: router)
        return router
    }

    private func ready(_ request: Request, _ context: AppContext) async throws -> Response {
        let isWritable: Void? = await readInTime { connection throws(DatabaseError) in
            try connection.requireWritable()
        }
        guard isWritable != nil else {
            throw APIError(
                status: .serviceUnavailable, code: "NOT_READY",
                message: "PostgreSQL does not answer, or is read-only")
        }
        return Self.text("ready\n")
    }

    private func metrics(_ request: Request, _ context: AppContext) async throws -> Response {
        let reading = BidAPIReading(services: services, backlog: await readInTime(Outbox.backlog))
        let accepted = request.headers[.accept] ?? ""
        let isOpenMetrics = accepted.contains("application/openmetrics-text")
        var text = PrometheusText(isOpenMetrics ? .openMetrics : .prometheus)
        for metric in BidAPIMetrics.table { metric.write(of: reading, to: &text) }
        text.addProcess(version: ProgramEntry.version)
        var response = Self.text(text.text)
        response.headers[.contentType] = text.contentType
        return response
    }

    /// Runs `body` and returns its result; `nil` when PostgreSQL fails or takes too long.
    private func readInTime<Result: Sendable>(
        _ body: @escaping @Sendable (PostgresConnection) throws(DatabaseError) -> Result
    ) async -> Result? {
        let (results, first) = AsyncStream<Result?>.makeStream()
        let reading = Task { first.yield(try? await services.pool.run(body)) }
        let timing = Task {
            try? await Task.sleep(for: Limits.readiness)
            first.yield(nil)
        }
        defer {
            reading.cancel()
            timing.cancel()
        }
        for await result in results { return result }
        return nil
    }

    private static func text(_ text: String) -> Response {
        Response(
            status: .ok, headers: [.contentType: "text/plain; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}

/// The admin listener is not for browsers.
private struct NoBrowserMiddleware: RouterMiddleware {
    func handle(
        _ request: Request, context: AppContext, next: (Request, AppContext) async throws -> Response
    ) async throws -> Response {
        guard request.headers[.origin] == nil else {
            throw APIError(
                status: .forbidden, code: "FORBIDDEN", message: "the admin listener is not for browsers")
        }
        return try await next(request, context)
    }
}
