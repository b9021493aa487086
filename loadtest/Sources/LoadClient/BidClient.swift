// The bid API as its callers see it: registering, creating, listing and bidding.

import Foundation

/// A registered user with a connection of their own.
package final class BidClient {
    package struct Auction: Sendable {
        package let id: String
        package let currentPrice: Double
        package let minimumBid: Double
        package let secondsLeft: Int
        /// The highest bidder's name; `nil` before the first bid.
        package let leader: String?
    }

    package let username: String
    package let userID: String
    package let token: String
    private let http: HTTPClient

    /// Registers `username`.
    package init(port: Int, username: String, password: String = UUID().uuidString) throws(SocketFailure) {
        http = HTTPClient(port: port)
        self.username = username
        let reply = try http.request(
            "POST", "/api/v1/auth/register",
            json:
                #"{"username":"\#(username)","email":"\#(username)@bidder.example","password":"\#(password)"}"#
        )
        guard reply.status == 201, let token = reply.json["token"] as? String,
            let userID = reply.json["user_id"] as? String
        else {
            throw SocketFailure(description: "registering \(username): \(reply.status) \(reply.text)")
        }
        self.token = token
        self.userID = userID
    }

    /// Any call, in this user's name.
    package func request(
        _ method: String, _ path: String, json: String? = nil, fields: [String: String] = [:]
    ) throws(SocketFailure) -> HTTPReply {
        try http.request(method, path, token: token, fields: fields, json: json)
    }

    package func bid(
        _ amount: String, on auctionID: String, fields: [String: String] = [:]
    ) throws(SocketFailure) -> HTTPReply {
        try http.request(
            "POST", "/api/v1/auctions/\(auctionID)/bids", token: token, fields: fields,
            json: #"{"amount":\#(amount)}"#)
    }

    /// Creates an auction from the members of a JSON object; returns its id.
    package func createAuction(_ json: String) throws(SocketFailure) -> String {
        let reply = try http.request("POST", "/api/v1/auctions", token: token, json: json)
        guard reply.status == 201, let id = reply.json["auction_id"] as? String else {
            throw SocketFailure(description: "creating an auction: \(reply.status) \(reply.text)")
        }
        return id
    }

    /// The running auctions that this user sees first.
    package func runningAuctions() throws(SocketFailure) -> [Auction] {
        let reply = try http.request("GET", "/api/v1/auctions?status=active&sort=newest&limit=100")
        let list = reply.json["auctions"] as? [[String: Any]] ?? []
        return list.compactMap { auction in
            guard let id = auction["auction_id"] as? String, let price = auction["current_price"] as? Double,
                let increment = auction["bid_increment"] as? Double, let count = auction["bid_count"] as? Int
            else { return nil }
            return Auction(
                id: id, currentPrice: price, minimumBid: count == 0 ? price : price + increment,
                secondsLeft: auction["time_remaining_seconds"] as? Int ?? 0,
                leader: (auction["top_bids"] as? [[String: Any]])?.first?["bidder"] as? String)
        }
    }
}
