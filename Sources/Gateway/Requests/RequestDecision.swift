// The decision about a request, as a value. It is made from the head and the settings alone, and `Requests`
// carries it out.

import AuctionEvents
import Fanout
import Tokens
import Wire

enum RequestDecision {
    /// An answer; the connection is kept where the client wants that.
    case respond(HTTPResponse)
    /// An answer, after which the connection closes.
    case respondAndClose(HTTPResponse)
    /// The connection becomes a watcher.
    case watch(LiveRequest)
    /// A refused watch; `isTokenFault` when the token is to blame.
    case refuse(HTTPResponse, isTokenFault: Bool)
    /// An answer from loop 0's counters, or an operator's command.
    case administer(AdminRequest)
    /// A request to the echo path.
    case echo
    /// A WebSocket on the echo path.
    case echoSocket(WebSocketUpgrade)
}

/// A watch that a client asked for and may have.
struct LiveRequest {
    enum Target {
        case auction(AuctionID, since: UInt64?)
        /// Many auctions; a WebSocket names them later.
        case many([(auctionID: AuctionID, since: UInt64?)])
        case user(String)
    }

    /// How the events travel.
    enum Carrier {
        case webSocket(WebSocketUpgrade)
        case eventStream
        case longPoll(seconds: Int)
    }

    let target: Target
    let carrier: Carrier
    let access: Access
    /// The fields that the answer carries because of the request's origin.
    let fields: HTTPFields
    let keepsAlive: Bool
    /// Seconds between heartbeats that the client asked for; 0 when it did not.
    let heartbeatSeconds: UInt8
}

/// The settings that decide about requests, and the time.
struct RequestRules {
    let origins: [String]
    let requiresToken: Bool
    let tokenKeys: TokenKeys?
    let deflates: Bool
    /// Seconds since 1970.
    let now: Int
}
