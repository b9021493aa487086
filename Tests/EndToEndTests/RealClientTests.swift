import Foundation
import LoadClient
import LocalServers
import RedisLink
import Testing

extension EndToEndTests {
    /// Clients that others wrote, plain and over TLS: a browser, curl, Python's libraries.
    @Suite(.serialized) struct RealClients {
        private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Clients").path

        let redis: RedisServer
        let gateway: GatewayProcess
        let certificate: String

        init() throws {
            redis = try RedisServer()
            gateway = try GatewayProcess(redis: [redis.url], arguments: ["--origins", "*"])
            certificate = try TestCertificate.shared().certificate.certificate
            let client = try redis.client()
            for sequence in 1...3 {
                _ = try client.call("XADD", RedisKeys.log("a1"), "\(sequence)-0", "e", event(sequence))
            }
            _ = try client.call("SET", RedisKeys.state("a1"), #"{"seq":3,"title":"t","status":"active"}"#)
        }

        private func event(_ sequence: Int) -> String {
            let text = String(repeating: "é again ", count: 30)
            return #"{"type":"BID_UPDATE","auction_id":"a1","seq":\#(sequence),"text":"\#(text)"}"#
        }

        private func output(_ arguments: [String], status: Int32 = 0) throws -> String {
            let process = try ChildProcess("client", arguments)
            #expect(process.waitForExit() == status, "\(process.log)")
            return process.log
        }

        @Test("Chromium's WebSocket and EventSource, plain and over TLS")
        func chromium() throws {
            let page = Guardian.shared.folder + "/watch.html"
            let text = try String(contentsOfFile: Self.folder + "/watch.html", encoding: .utf8)
                .replacing("PLAIN", with: "\(gateway.port)").replacing(
                    "SECURE", with: "\(gateway.securePort)")
            try text.write(toFile: page, atomically: true, encoding: .utf8)
            let dump = try output([
                "/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu",
                "--ignore-certificate-errors",
                "--user-data-dir=\(Guardian.shared.folder)/chromium", "--dump-dom", "file://\(page)",
            ])
            for name in ["ws", "wss"] {
                let lines = ["RESUMED 3", "BID_UPDATE 1", "BID_UPDATE 2", "BID_UPDATE 3"]
                for line in lines {
                    #expect(dump.contains("\(name) \(line) permessage-deflate\n"), "\(dump)")
                }
            }
            for name in ["sse", "sses"] {
                let lines = ["RESUMED 0", "BID_UPDATE 1", "BID_UPDATE 2", "BID_UPDATE 3"]
                for line in lines { #expect(dump.contains("\(name) \(line)\n"), "\(dump)") }
            }
            #expect(!dump.contains(" error\n"))
        }

        @Test("Python's websockets and aiohttp, plain and over TLS")
        func python() throws {
            let events = "BID_UPDATE 1\nBID_UPDATE 2\nBID_UPDATE 3\n"
            let hosts = [("", gateway.port), ("s", gateway.securePort)]
            for (secure, port) in hosts {
                func watch(_ library: String, _ scheme: String, count: Int) throws -> String {
                    try output([
                        "/usr/bin/python3", Self.folder + "/watch.py", library,
                        "\(scheme)\(secure)://127.0.0.1:\(port)/v1/auctions/a1/live?since=0", certificate,
                        "\(count)",
                    ])
                }
                #expect(
                    try watch("websockets", "ws", count: 4) == "RESUMED 3\n\(events)PONG None\nclosed 1000\n")
                #expect(try watch("aiohttp", "ws", count: 4) == "deflate True\nRESUMED 3\n\(events)")
                #expect(
                    try watch("aiohttp-sse", "http", count: 4)
                        == "200 text/event-stream\nRESUMED 3\n\(events)")
            }
        }

        @Test("curl, plain and over TLS: a page, a poll, a stream")
        func curl() throws {
            let bases = ["http://127.0.0.1:\(gateway.port)", "https://127.0.0.1:\(gateway.securePort)"]
            for base in bases {
                let curl = ["/usr/bin/curl", "--silent", "--show-error", "--cacert", certificate]
                #expect(try output(curl + [base + "/"]).contains("<!doctype html>"))
                #expect(try output(curl + ["--compressed", base + "/"]).contains("<!doctype html>"))
                let poll = try output(curl + [base + "/v1/auctions/a1/live?since=2"])
                #expect(poll.contains(#""seq":3"#) && poll.contains(#""complete":true"#))
                // A stream has no end: curl gives up after a second with status 28.
                let stream = try output(
                    curl + [
                        "-N", "-m", "1", "-H", "Accept: text/event-stream", base + "/v1/auctions/a1/live",
                    ],
                    status: 28)
                #expect(stream.contains("event: SNAPSHOT\n") && stream.contains("id: 3\n"))
            }
        }
    }
}
