// Why a live request is refused.

package import Wire

/// Why a live request is refused.
package struct LiveRefusal: Error {
    package let code: String
    package let message: String
    package let response: HTTPResponse
    /// True when the token itself is refused, and not only this use of it.
    package var isTokenFault = false

    package init(_ status: HTTPStatus, _ code: String, _ message: String, fields: HTTPFields = []) {
        self.code = code
        self.message = message
        response = .error(status, code, message, fields: fields)
    }

    package static let auctionID = LiveRefusal(.badRequest, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
    package static let auctions = LiveRefusal(
        .badRequest, "BAD_AUCTIONS", "auctions names 1 to \(LiveLimits.auctionsPerRequest) auctions")
    package static let token = LiveRefusal(.unauthorized, "UNAUTHORIZED", "this address needs a token")
    package static let noPoll = LiveRefusal(
        .upgradeRequired, "UPGRADE_REQUIRED", "this address speaks WebSocket and text/event-stream",
        fields: [("Upgrade", "websocket")])
}
