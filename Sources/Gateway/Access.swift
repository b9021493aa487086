// What a client may watch, by its token.

import AuctionEvents
import LiveProtocol
import Tokens
import Wire

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
        case .wrongSignature: "no key of this gateway verifies the token's signature"
        case .expired: "the token has expired"
        case .notYetValid: "the token is not valid yet"
        }
    }
}
