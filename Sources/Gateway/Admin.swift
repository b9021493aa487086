// The admin listener's addresses, answered by loop 0 from counters that all loops keep.

import CLinux
import Fanout
import Glibc
import Reactor
import Synchronization
import Telemetry
import Wire

extension Worker {
    func answerAdmin(_ slot: UInt32, _ head: RequestHead, _ bytes: Span<UInt8>, path: String) {
        guard !head.hasOrigin else {
            return respond(
                slot, .error(.forbidden, "FORBIDDEN", "the admin listener is not for browsers"), head)
        }
        let isPost: Bool
        switch path {
        case "/healthz", "/readyz", "/metrics", "/v1/stats": isPost = false
        case "/v1/drain", "/v1/disconnect": isPost = true
        default:
            return respond(slot, .error(.notFound, "NOT_FOUND", "there is nothing at this address"), head)
        }
        switch head.method {
        case .post where isPost: break
        case .get where !isPost, .head where !isPost: break
        case .get, .head, .post, .options, .other:
            return respondMethodNotAllowed(slot, head, allow: isPost ? "POST" : "GET, HEAD")
        }
        respond(slot, adminResponse(path, query: bytes.text(head.query)), head)
    }

    private func adminResponse(_ path: String, query: String) -> HTTPResponse {
        switch path {
        case "/readyz":
            guard shared.isReady else {
                let reason = shared.isDraining.load(ordering: .relaxed) ? "draining" : "no Redis delivers"
                return .error(.serviceUnavailable, "NOT_READY", reason)
            }
            return Self.text("ready\n")
        case "/metrics":
            return HTTPResponse(
                .ok, fields: [("Content-Type", PrometheusText.contentType)],
                body: Array(GatewayMetrics.prometheus(shared).utf8))
        case "/v1/stats":
            return HTTPResponse(
                .ok, fields: [("Content-Type", "application/json")], body: GatewayMetrics.stats(shared))
        case "/v1/drain":
            // The same way as for an operator's signal: the main thread leads the drain.
            kill(getpid(), SIGTERM)
            return Self.text("draining\n")
        case "/v1/disconnect":
            let auctionID = QueryString.value("auction", in: query)
            for worker in shared.workers {
                _ = worker.mailbox.post(.disconnect(auctionID: auctionID), .always)
            }
            return Self.text("disconnecting\n")
        default: return Self.text("alive\n")
        }
    }

    private static func text(_ text: String) -> HTTPResponse {
        HTTPResponse(.ok, fields: [("Content-Type", "text/plain; charset=utf-8")], body: Array(text.utf8))
    }
}
