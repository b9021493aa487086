// The addresses on which something can be watched.

import AuctionEvents
import Wire

/// The addresses on which something can be watched.
package enum LiveAddress {
    /// `/v1/auctions/{id}/live`; the id is unchecked, and decoded if it could be.
    case auction(String)
    /// `/v1/live`
    case many
    /// `/v1/users/me/live`
    case user

    package init?(_ path: String) {
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
