import Foundation
import LoadClient
import LocalServers
import Testing

/// Runs beside the others: it is long, not busy.
@Suite struct GrowthTests {
    @Test("100,000 connects and disconnects on every transport leave nothing behind")
    func leavesNothing() throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url])
        let path = "/v1/auctions/a%/live"
        let handshake =
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        let subscribe = WebSocketClient.frame(0x1, Array(#"{"type":"SUBSCRIBE","auction_id":"a1"}"#.utf8))
        func request(_ path: String, _ fields: String, _ more: [UInt8] = []) -> [UInt8] {
            Array("GET \(path) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n".utf8) + more
        }
        let stream = "Accept: text/event-stream\r\n"
        let incomplete = Array("GET /v1/auctions/a1/live HTT".utf8)
        let requests = [
            request("/v1/auctions/a1/live", handshake), request("/v1/auctions/a1/live", handshake + deflate),
            request("/v1/auctions/a2/live?since=4", handshake),
            request("/v1/auctions/a1/live", stream), request("/v1/auctions/a3/live?since=0", stream),
            request("/v1/auctions/a1/live?since=0", ""), request("/v1/auctions/a2/live", ""),
            request("/v1/live", handshake, subscribe), request("/v1/live?auctions=a1,a2,a3", stream),
            incomplete, request(path, ""),
        ]
        let port = gateway.port
        func churn(_ count: Int) throws {
            _ = try together(4) { thread in
                for round in 0..<count / 4 {
                    let socket = try BlockingSocket(port: port, resetsOnClose: true)
                    try socket.send(requests[(thread + round) % requests.count])
                    // Some wait for an answer, the others go at once.
                    if round % 3 == 0, requests[(thread + round) % requests.count] != incomplete {
                        _ = try socket.receive(milliseconds: 1)
                    }
                    socket.close()
                }
            }
            try eventually("all are gone") { try gateway.metric("gavelcast_connections") == 1 }
        }
        try churn(20_000)
        let before = try gateway.metric("gavelcast_resident_bytes")
        try churn(100_000)
        let growth = try gateway.metric("gavelcast_resident_bytes") - before
        // A leak of 21 bytes a connection would be seen. A sanitizer keeps what is freed for a while.
        #expect(Sanitizer.isOn || growth < 2 << 20, "\(growth) bytes")
        let metrics = try HTTPClient(port: gateway.adminPort).request("GET", "/metrics").text
        for transport in ["websocket", "sse", "longpoll"] {
            #expect(metrics.contains("gavelcast_watchers{transport=\"\(transport)\"} 0\n"))
        }
        #expect(try gateway.metric("gavelcast_subscriptions") == 0)
        #expect(try gateway.metric("gavelcast_backlogs") == 0)
        #expect(try gateway.metric("gavelcast_accepted_total") > 120_000)
    }
}
