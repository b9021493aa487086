// What PostgreSQL says was published: the outbox keeps the last thousand events of an auction.

import AuctionStore
package import LoadEngine

package enum PublishedEvents {
    /// - Parameter auctions: those whose truth is wanted, in this order.
    package static func truth(database url: String, auctions: [String]) throws -> [AuctionTruth] {
        let connection = try PostgresConnection(url: url)
        return try auctions.map { auction in
            let rows = try connection.query(
                "SELECT seq, event FROM outbox WHERE auction_id = $1 AND seq > 0 ORDER BY seq", [auction])
            let first = rows.isEmpty ? 1 : try rows.integer(0, 0)
            guard first == 1 else {
                throw ScenarioError(
                    description:
                        "the outbox of auction '\(auction)' was pruned up to \(first - 1): audit sooner")
            }
            var truth = AuctionTruth()
            for row in 0..<rows.count {
                let message = Array(rows.text(row, 1).utf8).withUnsafeBytes { ScannedMessage($0) }
                truth.append(hash: message.hash, isLossless: message.kind == .lossless)
            }
            return truth
        }
    }
}
