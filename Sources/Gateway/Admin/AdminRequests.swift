// The admin listener's addresses, answered by loop 0 from counters that all loops keep.

import AuctionEvents
import CLinux
import Fanout
import Glibc
import Reactor
import Synchronization
import Telemetry
import Wire

enum AdminRequest {
    case health
    case readiness
    case metrics(PrometheusText.Format)
    case stats
    case inspect(InspectionQuestion)
    case drain
    /// Of one auction, or of all.
    case disconnect(auctionID: String?)

    /// Why a request is not carried out.
    struct Refusal: Error {
        let response: HTTPResponse
    }

    static func decide(
        _ head: RequestHead, path: String, query: String
    ) -> Result<AdminRequest, Refusal> {
        guard !head.hasOrigin else {
            return refuse(.error(.forbidden, "FORBIDDEN", "the admin listener is not for browsers"))
        }
        let request: AdminRequest
        switch path {
        case "/healthz": request = .health
        case "/readyz": request = .readiness
        case "/metrics": request = .metrics(head.acceptsOpenMetrics ? .openMetrics : .prometheus)
        case "/v1/stats": request = .stats
        case "/v1/drain": request = .drain
        case "/v1/disconnect": request = .disconnect(auctionID: QueryString.value("auction", in: query))
        case "/v1/redis": request = .inspect(.redis)
        case "/v1/watchers":
            let most = QueryString.value("slowest", in: query).map { Int($0) } ?? 20
            guard let most, Limits.inspectedWatchers.contains(most) else {
                return refuse(.error(.badRequest, "BAD_REQUEST", "slowest: must be from 1 to 1000"))
            }
            request = .inspect(.slowestWatchers(most))
        default:
            let prefix = "/v1/auctions/"
            guard path.hasPrefix(prefix) else { return refuse(.notFound) }
            guard let auctionID = AuctionID(String(path.dropFirst(prefix.count))) else {
                return refuse(.error(.badRequest, "BAD_REQUEST", "this is no auction's id"))
            }
            request = .inspect(.auction(id: auctionID.text))
        }
        switch head.method {
        case .post where request.isCommand: break
        case .get where !request.isCommand, .head where !request.isCommand: break
        case .get, .head, .post, .options, .other:
            return refuse(.methodNotAllowed(allow: request.isCommand ? "POST" : "GET, HEAD"))
        }
        return .success(request)
    }

    private static func refuse(_ response: HTTPResponse) -> Result<AdminRequest, Refusal> {
        .failure(Refusal(response: response))
    }

    /// True for a request that changes something.
    private var isCommand: Bool {
        switch self {
        case .health, .readiness, .metrics, .stats, .inspect: false
        case .drain, .disconnect: true
        }
    }

    /// Carries the request out and returns its answer.
    func answer(_ shared: Shared) -> HTTPResponse {
        switch self {
        case .health: return Self.text("alive\n")
        case .readiness:
            guard shared.isReady else {
                let reason = shared.isDraining.load(ordering: .relaxed) ? "draining" : "no Redis delivers"
                return .error(.serviceUnavailable, "NOT_READY", reason)
            }
            return Self.text("ready\n")
        case .metrics(let format):
            let text = GatewayMetrics.text(shared, format)
            return HTTPResponse(
                .ok, fields: [("Content-Type", text.contentType)], body: Array(text.text.utf8))
        case .stats:
            return HTTPResponse(
                .ok, fields: [("Content-Type", "application/json")], body: GatewayMetrics.stats(shared))
        case .inspect: preconditionFailure("loops answer this")
        case .drain:
            // Raises the signal that an operator would send. The main thread leads the drain.
            kill(getpid(), SIGTERM)
            return Self.text("draining\n")
        case .disconnect(let auctionID):
            for loop in shared.loops { _ = loop.mailbox.post(.disconnect(auctionID: auctionID), .always) }
            return Self.text("disconnecting\n")
        }
    }

    private static func text(_ text: String) -> HTTPResponse {
        HTTPResponse(.ok, fields: [("Content-Type", "text/plain; charset=utf-8")], body: Array(text.utf8))
    }
}
