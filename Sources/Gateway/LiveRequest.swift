// What a request to a live address asks for, read and checked before anything is done about it.

import AuctionEvents
import Tokens
import Wire

/// The addresses on which something can be watched.
enum LiveAddress {
    /// `/v1/auctions/{id}/live`; the id is unchecked, and decoded if it could be.
    case auction(String)
    /// `/v1/live`
    case many
    /// `/v1/users/me/live`
    case user

    init?(_ path: String) {
        if path == "/v1/live" {
            self = .many
        } else if path == "/v1/users/me/live" {
            self = .user
        } else {
            let prefix = "/v1/auctions/"
            let suffix = "/live"
            guard path.hasPrefix(prefix), path.hasSuffix(suffix),
                path.utf8.count > prefix.utf8.count + suffix.utf8.count
            else { return nil }
            let id = path.dropFirst(prefix.count).dropLast(suffix.count)
            guard !id.contains("/") else { return nil }
            self = .auction(PercentEncoding.decoded(id.utf8) ?? String(id))
        }
    }
}

/// What is kept of a live request until the head of its answer is sent.
struct OpenRequest {
    /// The fields that the answer carries because of the request's origin.
    let fields: HTTPFields
    /// A long-poll's time, in timer ticks.
    var deadlineTick: UInt32 = 0
}

/// What a client may watch.
enum Access: Sendable {
    /// It gave no token.
    case anonymous
    case bearer(AccessToken)

    /// Reads the token in the head's `Authorization`, or else the one in the query's `token`.
    init(
        authorization: String, query: String, keys: TokenKeys?, now: Int
    ) throws(LiveRefusal) {
        let scheme = "bearer "
        var text = QueryString.value("token", in: query)
        if authorization.lowercased().hasPrefix(scheme) {
            text = String(authorization.dropFirst(scheme.count).drop { $0 == " " })
        }
        guard let text else {
            self = .anonymous
            return
        }
        let token: AccessToken
        do throws(AccessToken.Fault) {
            token = try AccessToken.verify(text, with: keys ?? TokenKeys([]), now: now)
        } catch {
            throw LiveRefusal(.unauthorized, "UNAUTHORIZED", error.explanation)
        }
        guard token.audience == nil || token.audience == "api" || token.audience == "watch" else {
            throw LiveRefusal(.forbidden, "FORBIDDEN", "the token is for another audience")
        }
        self = .bearer(token)
    }

    /// - Parameter requiresToken: whether public auctions need a token too.
    func check(_ auctionID: AuctionID, requiresToken: Bool) throws(LiveRefusal) {
        let needsToken = requiresToken || auctionID.isPrivate
        guard case .bearer(let token) = self else {
            guard !needsToken else {
                throw LiveRefusal(.unauthorized, "UNAUTHORIZED", "watching this auction needs a token")
            }
            return
        }
        let isAllowed =
            switch token.auctions {
            case .all: true
            case .listed(let ids): ids.contains(auctionID.text) || !needsToken
            case .none: !auctionID.isPrivate
            }
        guard isAllowed else {
            throw LiveRefusal(.forbidden, "FORBIDDEN", "the token is not for this auction")
        }
    }
}

extension AccessToken.Fault {
    fileprivate var explanation: String {
        switch self {
        case .malformed: "the token is malformed"
        case .wrongSignature: "the token is signed with no key that is known here"
        case .expired: "the token has expired"
        case .notYetValid: "the token is not valid yet"
        }
    }
}

/// Why a live request is refused.
struct LiveRefusal: Error {
    let code: String
    let message: String
    let response: HTTPResponse

    init(_ status: HTTPStatus, _ code: String, _ message: String, fields: HTTPFields = []) {
        self.code = code
        self.message = message
        response = .error(status, code, message, fields: fields)
    }

    static let auctionID = LiveRefusal(.badRequest, "BAD_AUCTION_ID", ClientMessage.auctionIDRule)
    static let auctions = LiveRefusal(
        .badRequest, "BAD_AUCTIONS", "auctions names 1 to \(Limits.auctionsPerStream) auctions")
    static let token = LiveRefusal(.unauthorized, "UNAUTHORIZED", "this address needs a token")
    static let noPoll = LiveRefusal(
        .upgradeRequired, "UPGRADE_REQUIRED", "this address speaks WebSocket and text/event-stream",
        fields: [("Upgrade", "websocket")])
}

/// The parameters of a live request.
enum LiveQuery {
    /// A single auction's cursor. The header is stronger than the parameter.
    static func cursor(_ query: String, lastEventID: String) throws(LiveRefusal) -> UInt64? {
        let text = lastEventID.isEmpty ? QueryString.value("since", in: query) : lastEventID
        guard let text else { return nil }
        guard case .at(let since) = Cursor(text) else {
            throw LiveRefusal(.badRequest, "BAD_CURSOR", Cursor.rule)
        }
        return since
    }

    /// The auctions of `?auctions=a,b`, in their order, each once, with the cursors of `a:12,b:7`. Cursors of
    /// other auctions do not matter: a client may drop an auction from its list.
    static func auctions(
        _ query: String, lastEventID: String
    ) throws(LiveRefusal) -> [(auctionID: AuctionID, since: UInt64?)] {
        var auctions: [(auctionID: AuctionID, since: UInt64?)] = []
        for text in (QueryString.value("auctions", in: query) ?? "").split(separator: ",") {
            guard let auctionID = AuctionID(text) else { throw .auctionID }
            if auctions.contains(where: { $0.auctionID == auctionID }) { continue }
            // At the first too many: each further one is compared with all before.
            guard auctions.count < Limits.auctionsPerStream else { throw .auctions }
            auctions.append((auctionID, nil))
        }
        guard !auctions.isEmpty else { throw .auctions }
        let cursors = lastEventID.isEmpty ? QueryString.value("since", in: query) ?? "" : lastEventID
        for pair in cursors.split(separator: ",") {
            let parts = pair.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, case .at(let since) = Cursor(String(parts[1])) else {
                throw LiveRefusal(.badRequest, "BAD_CURSOR", "since is a list such as a:12,b:7")
            }
            if let index = auctions.firstIndex(where: { $0.auctionID.text == parts[0] }) {
                auctions[index].since = since
            }
        }
        return auctions
    }

    /// Seconds that a long-poll waits, brought within the range.
    static func pollSeconds(_ query: String) throws(LiveRefusal) -> Int {
        guard let text = QueryString.value("timeout", in: query) else { return Limits.pollSeconds }
        guard let seconds = Int(text) else {
            throw LiveRefusal(.badRequest, "BAD_TIMEOUT", "timeout is a whole number of seconds")
        }
        let range = Limits.pollSecondsRange
        return min(max(seconds, range.lowerBound), range.upperBound)
    }
}
