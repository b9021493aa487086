// Routes for administrators: banning users and reading the audit log. ``AuctionRoutes`` cancels and extends
// auctions.

import AuctionEvents
import AuctionStore
import Hummingbird

struct ModerationRoutes: Sendable {
    let services: Services

    func ban(_ request: Request, _ context: AppContext) async throws -> Response {
        let adminID = try services.authenticate(request)
        guard let userID = context.idInPath.flatMap({ AuctionID($0) })?.text else {
            throw APIError.notFound("user")
        }
        let body = try await RequestBodies.decode(BanBody.self, from: request, isOptional: true)
        let (reason, isBanned) = (body?.reason ?? "", body?.banned ?? true)
        let outcome = try await services.pool.run { connection throws(DatabaseError) in
            try UserRecords.ban(connection, userID, isBanned: isBanned, by: adminID, reason: reason)
        }
        switch outcome {
        case .refused(let refusal): throw APIError.refusal(refusal)
        case .unknownUser: throw APIError.notFound("user")
        case .done(let user):
            return .json {
                $0.field("user_id", user.userID)
                $0.field("username", user.username)
                $0.field("banned", user.isBanned)
            }
        }
    }

    func audit(_ request: Request, _ context: AppContext) async throws -> Response {
        let adminID = try services.authenticate(request)
        let (limit, cursor) = (try request.limit, try request.numberCursor)
        let found = try await services.pool.run { connection throws(DatabaseError) in
            if let refusal = try UserRecords.refusal(connection, adminID, .admin) {
                return Result<(entries: [AuditRecord], next: Int64?), UserRecords.Refusal>.failure(refusal)
            }
            return .success(try AuditLog.page(connection, below: cursor, limit: limit))
        }
        let page = try found.mapError(APIError.refusal).get()
        return .page("entries", page.entries, next: page.next.map { "\($0)" }) { row, writer in
            writer.field("admin_id", row.entry.adminID)
            writer.field("action", row.entry.action)
            writer.field("auction_id", row.entry.auctionID)
            writer.field("user_id", row.entry.userID)
            writer.field("reason", row.entry.reason)
            writer.field("details", row.entry.details)
            writer.field("created_at", row.at)
        }
    }
}
