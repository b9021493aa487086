// The parameters of a live request, read and checked before anything is done about it.

package import AuctionEvents
import Wire

/// The parameters of a live request.
package enum LiveQuery {
    /// A single auction's cursor. The header overrides the parameter.
    package static func cursor(_ query: String, lastEventID: String) throws(LiveRefusal) -> UInt64? {
        let text = lastEventID.isEmpty ? QueryString.value("since", in: query) : lastEventID
        guard let text else { return nil }
        guard case .at(let since) = Cursor(text) else {
            throw LiveRefusal(.badRequest, "BAD_CURSOR", Cursor.rule)
        }
        return since
    }

    /// The auctions of `?auctions=a,b`, in their order, each once, with the cursors of `a:12,b:7`. Cursors of
    /// other auctions do not matter: a client may drop an auction from its list.
    package static func auctions(
        _ query: String, lastEventID: String
    ) throws(LiveRefusal) -> [(auctionID: AuctionID, since: UInt64?)] {
        var auctions: [(auctionID: AuctionID, since: UInt64?)] = []
        for text in (QueryString.value("auctions", in: query) ?? "").split(separator: ",") {
            guard let auctionID = AuctionID(text) else { throw .auctionID }
            if auctions.contains(where: { $0.auctionID == auctionID }) { continue }
            // Stops at the first auction too many, because each one is compared with all before it.
            guard auctions.count < LiveLimits.auctionsPerRequest else { throw .auctions }
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
    package static func pollSeconds(_ query: String) throws(LiveRefusal) -> Int {
        try seconds("timeout", "BAD_TIMEOUT", within: LiveLimits.pollSecondsRange, query)
            ?? LiveLimits.pollSeconds
    }

    /// Seconds between heartbeats, brought within the range; `nil` when the client does not ask.
    package static func heartbeatSeconds(_ query: String) throws(LiveRefusal) -> Int? {
        try seconds("heartbeat", "BAD_HEARTBEAT", within: LiveLimits.heartbeatSecondsRange, query)
    }

    private static func seconds(
        _ name: String, _ code: String, within range: ClosedRange<Int>, _ query: String
    ) throws(LiveRefusal) -> Int? {
        guard let text = QueryString.value(name, in: query) else { return nil }
        guard let seconds = Int(text) else {
            throw LiveRefusal(.badRequest, code, "\(name) is a whole number of seconds")
        }
        return min(max(seconds, range.lowerBound), range.upperBound)
    }
}
