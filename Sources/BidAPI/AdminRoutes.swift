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
        var text = PrometheusText()
        let counters = services.counters
        func count(_ name: String, _ help: String, _ value: Int) { text.metric(name, .counter, help, value) }
        text.metric(
            "gavelcast_bids_total", .counter, "Bids by result.",
            BidAPICounters.BidResult.allCases.map {
                (labels: [("result", $0.label)], value: counters.current($0))
            })
        text.metric("gavelcast_bid_seconds", "From a bid's arrival to its answer.", counters.bidSeconds)
        text.metric("gavelcast_bid_batch_size", "Bids decided in one transaction.", counters.batchBids)
        count(
            "gavelcast_limits_uncounted_total", "Actions let through because Redis did not count them.",
            counters.uncountedActions.current)
        count("gavelcast_auctions_created_total", "Auctions created.", counters.createdAuctions.current)
        count(
            "gavelcast_auctions_clocked_total", "Auctions started or ended by the clock.",
            counters.endedOrStarted.current)
        text.metric(
            "gavelcast_closer_lag_seconds", "How late auctions were started or ended.",
            counters.closerLagSeconds)
        count(
            "gavelcast_replica_reads_total", "Lists and histories that the replica served.",
            counters.replicaReads.current)
        count(
            "gavelcast_replica_misses_total", "Lists and histories that the replica could not serve.",
            counters.replicaMisses.current)
        if let backlog = await readInTime(Outbox.backlog) {
            text.metric(
                "gavelcast_outbox_events", .gauge, "Events that wait to be published.", backlog.events)
            text.metric(
                "gavelcast_outbox_age_seconds", .gauge, "How long the oldest unpublished event has waited.",
                backlog.oldestSeconds)
        }
        count(
            "gavelcast_rows_unreadable_total",
            "Rows that were left out because this version cannot read them.",
            services.unreadable.count.current)
        let relay = services.relay.counters
        count(
            "gavelcast_relay_published_total", "Events brought to Redis.",
            relay.published.current)
        count(
            "gavelcast_relay_pushed_total", "Notifications pushed to users.",
            relay.pushed.current)
        count(
            "gavelcast_relay_refills_total", "Auctions written anew to Redis.",
            relay.refilled.current)
        count(
            "gavelcast_relay_redis_ahead_total", "Auctions whose state in Redis was ahead of PostgreSQL.",
            relay.aheadOfDatabase.current)
        count(
            "gavelcast_relay_redis_failures_total", "Failed calls to Redis.",
            relay.redisFailures.current)
        text.addProcess(version: ProgramEntry.version)
        var response = Self.text(text.text)
        response.headers[.contentType] = PrometheusText.contentType
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
