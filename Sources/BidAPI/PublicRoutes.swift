// The public listener's table of addresses, which is also what its OpenAPI description must say.

import HTTPTypes
import Hummingbird

struct PublicRoutes: Sendable {
    let services: Services

    func router() -> Router<AppContext> {
        let router = Router(context: AppContext.self)
        router.add(middleware: RequestIDMiddleware())
        router.add(middleware: CrossOriginMiddleware(settings: services.settings))
        router.add(middleware: ErrorMiddleware())
        let auth = AuthRoutes(services: services)
        let auctions = AuctionRoutes(services: services)
        let bids = BidRoutes(services: services)
        let users = UserRoutes(services: services)
        let moderation = ModerationRoutes(services: services)
        var table = RouteTable(router: router)
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
        return router
    }
}

/// Registers routes, and answers the other methods of their addresses with 405.
struct RouteTable {
    typealias Handler = @Sendable (Request, AppContext) async throws -> Response

    private let router: Router<AppContext>
    /// Such as `GET /api/v1/auctions`.
    private(set) var operations: Set<String> = []

    init(router: Router<AppContext>) {
        self.router = router
    }

    mutating func add(_ path: String, _ handlers: [(HTTPRequest.Method, Handler)]) {
        let place = RouterPath(path)
        let allowed = handlers.map(\.0.rawValue).joined(separator: ", ")
        for (method, handler) in handlers {
            router.on(place, method: method, use: handler)
            operations.insert("\(method.rawValue) \(path)")
        }
        let methods: [HTTPRequest.Method] = [.get, .head, .post, .put, .patch, .delete, .options]
        for method in methods where !handlers.contains(where: { $0.0 == method }) {
            router.on(place, method: method) { _, _ in
                var response = APIError(
                    status: .methodNotAllowed, code: "METHOD_NOT_ALLOWED", message: "allowed here: \(allowed)"
                ).response
                response.headers[.allow] = allowed
                return response
            }
        }
    }
}
