// Routes for the caller's own data: bids, auctions, watchlist, notifications.

import AuctionEvents
import AuctionStore
import Hummingbird

struct UserRoutes: Sendable {
    let services: Services

    func bids(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let (limit, cursor) = (try request.limit, try request.pageCursor)
        let page = try await services.pool.run { connection throws(DatabaseError) in
            try UserLists.bids(connection, of: userID, after: cursor, limit: limit)
        }
        return .page("bids", page.rows, next: page.next?.text) { row, writer in
            writer.field("auction_id", row.auctionID)
            writer.field("title", row.title)
            writer.field("status", row.status)
            writer.field("currency", row.currency)
            writer.field("current_price", row.currentPrice)
            writer.field("ends_at", row.endsAt)
            writer.field("is_highest_bidder", row.isHighest)
            BidRoutes.write(row.bid, to: &writer)
        }
    }

    func auctions(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let (limit, cursor) = (try request.limit, try request.pageCursor)
        return .auctions(
            try await services.pool.run { connection throws(DatabaseError) in
                try AuctionLists.ofSeller(connection, userID, after: cursor, limit: limit)
            })
    }

    // MARK: Watchlist

    func watchlist(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let (limit, cursor) = (try request.limit, try request.pageCursor)
        return .auctions(
            try await services.pool.run { connection throws(DatabaseError) in
                try AuctionLists.watched(connection, by: userID, after: cursor, limit: limit)
            })
    }

    func watch(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let id = try context.auctionID
        let refusal = try await services.pool.run { connection throws(DatabaseError) in
            try UserLists.watch(connection, id, by: userID)
        }
        switch refusal {
        case .unknownAuction: throw APIError.notFound("auction")
        case .listIsFull:
            throw APIError.validation("auction_id: a watchlist holds \(UserLists.watchlistLimit) auctions")
        case nil: return .json(.created) { $0.field("auction_id", id.text) }
        }
    }

    func unwatch(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let id = try context.auctionID
        try await services.pool.run { connection throws(DatabaseError) in
            try UserLists.unwatch(connection, id, by: userID)
        }
        return Response(status: .noContent)
    }

    // MARK: Notifications

    func notifications(_ request: Request, _ context: AppContext) async throws -> Response {
        let userID = try await services.requireUser(request)
        let (limit, cursor) = (try request.limit, try request.numberCursor)
        let page = try await services.pool.run { connection throws(DatabaseError) in
            try Notifications.page(connection, of: userID, below: cursor, limit: limit)
        }
        return .page("notifications", page.notifications, next: page.next.map { "\($0)" }) {
            $0.writeFields(to: &$1)
        }
    }
}
