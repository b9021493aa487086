// The public listener's route table. Its OpenAPI description must list exactly these routes.

import HTTPTypes
import Hummingbird

struct PublicRoutes: Sendable {
    let services: Services

    func router() -> Router<AppContext> {
        var table = RouteTable()
        let auth = AuthRoutes(services: services)
        let auctions = AuctionRoutes(services: services)
        let bids = BidRoutes(services: services)
        let users = UserRoutes(services: services)
        let moderation = ModerationRoutes(services: services)
        table.add("/openapi.json", [(.get, OpenAPI.document)])
        table.add("/api/v1/auth/register", [(.post, auth.register)])
        table.add("/api/v1/auth/login", [(.post, auth.login)])
        table.add("/api/v1/auctions", [(.get, auctions.list), (.post, auctions.create)])
        table.add(
            "/api/v1/auctions/{id}",
            [(.get, auctions.get), (.put, auctions.update), (.delete, auctions.withdraw)])
        table.add("/api/v1/auctions/{id}/bids", [(.get, bids.history), (.post, bids.place)])
        table.add("/api/v1/auctions/{id}/proxy", [(.post, bids.proxy)])
        table.add("/api/v1/auctions/{id}/buy-now", [(.post, bids.buyNow)])
        table.add("/api/v1/auctions/{id}/share", [(.post, auctions.share)])
        table.add("/api/v1/users/me/bids", [(.get, users.bids)])
        table.add("/api/v1/users/me/auctions", [(.get, users.auctions)])
        table.add("/api/v1/users/me/watchlist", [(.get, users.watchlist)])
        table.add("/api/v1/users/me/watchlist/{id}", [(.post, users.watch), (.delete, users.unwatch)])
        table.add("/api/v1/users/me/notifications", [(.get, users.notifications)])
        table.add("/api/v1/admin/auctions/{id}", [(.put, auctions.administer)])
        table.add("/api/v1/admin/users/{id}/ban", [(.post, moderation.ban)])
        table.add("/api/v1/admin/audit", [(.get, moderation.audit)])
        precondition(
            table.operations == OpenAPI.operations, "openapi.json does not describe the routes that there are"
        )
        let router = Router(context: AppContext.self)
        router.add(middleware: RequestIDMiddleware())
        router.add(middleware: TimingMiddleware(times: services.counters.routes))
        router.add(middleware: HeadMiddleware())
        router.add(middleware: CrossOriginMiddleware(settings: services.settings))
        router.add(middleware: ErrorMiddleware(routes: table, unreadable: services.unreadable))
        table.register(on: router)
        return router
    }
}

/// Registers routes, HEAD wherever GET is, and answers the other methods of their addresses with 405.
struct RouteTable: Sendable {
    typealias Handler = @Sendable (Request, AppContext) async throws -> Response

    private struct Place: Sendable {
        let path: String
        let handlers: [(method: HTTPRequest.Method, handler: Handler)]
        let segments: [Substring]

        var methods: [HTTPRequest.Method] {
            handlers.flatMap { $0.method == .get ? [.get, .head] : [$0.method] }
        }
    }

    private var places: [Place] = []

    mutating func add(_ path: String, _ handlers: [(HTTPRequest.Method, Handler)]) {
        places.append(Place(path: path, handlers: handlers, segments: path.split(separator: "/")))
    }

    /// Such as `GET /api/v1/auctions`.
    var operations: Set<String> {
        Set(places.flatMap { place in place.methods.map { "\($0.rawValue) \(place.path)" } })
    }

    /// Call after all middleware is added: a route runs only the middleware added before it.
    func register(on router: Router<AppContext>) {
        for place in places {
            let path = RouterPath(place.path)
            for (method, handler) in place.handlers {
                router.on(path, method: method, use: handler)
                if method == .get { router.on(path, method: .head, use: handler) }
            }
        }
    }

    /// Which methods the address `path` takes; `nil` when there is no such address.
    func allowed(at path: String) -> String? {
        let segments = path.split(separator: "/")
        return places.first { place in
            place.segments.count == segments.count
                && zip(place.segments, segments).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }?.methods.map(\.rawValue).joined(separator: ", ")
    }
}

/// Drops the body of every answer to HEAD (RFC 9110, 9.3.2). Only the request-id middleware is outside it.
struct HeadMiddleware: RouterMiddleware {
    func handle(
        _ request: Request, context: AppContext,
        next: (Request, AppContext) async throws -> Response
    ) async throws -> Response {
        let response = try await next(request, context)
        return request.method == .head ? response.createHeadResponse() : response
    }
}
