import Foundation
import LoadClient
import LocalServers
import Reactor
import RedisLink
import Testing

/// The services behind nginx and HAProxy, with the files in `config`. It mostly waits, so it runs beside the
/// others.
@Suite struct ProxyTests {
    enum Kind: CaseIterable, Sendable {
        case nginx, haproxy
    }

    private static let measures = ProcessInfo.processInfo.environment["GAVELCAST_FIGURES"] != nil

    /// A proxy on ports of its own, before a gateway.
    private final class Proxy {
        let port: Int
        let securePort: Int
        let certificate: LocalCertificate
        private let process: ChildProcess

        init(_ kind: Kind, gatewayPort: Int) throws {
            port = try Ports.free()
            securePort = try Ports.free()
            certificate = try LocalCertificate()
            let root = URL(fileURLWithPath: #filePath)
                .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            func config(_ path: String) throws -> String {
                try String(contentsOf: root.appendingPathComponent("config/\(path)"), encoding: .utf8)
                    .replacing("127.0.0.1:8080", with: "127.0.0.1:\(gatewayPort)")
            }
            let folder = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8))"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let path = folder + "/config"
            switch kind {
            case .nginx:
                let text = try config("nginx/gavelcast.conf")
                    .replacing("listen 80;", with: "listen 127.0.0.1:\(port);")
                    .replacing("listen 443 ", with: "listen 127.0.0.1:\(securePort) ")
                    .replacing("/etc/nginx/gavelcast.pem", with: certificate.certificate)
                    .replacing("/etc/nginx/gavelcast.key", with: certificate.key)
                let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map {
                    "\($0)_temp_path \(folder)/\($0);"
                }.joined()
                try """
                daemon off; master_process off; pid \(folder)/pid; error_log stderr; worker_processes 1;
                events { worker_connections 1000; }
                http { access_log off; \(folders)
                \(text)
                }
                """.write(toFile: path, atomically: true, encoding: .utf8)
                process = try ChildProcess("nginx", ["/usr/sbin/nginx", "-c", path])
            case .haproxy:
                // A process of the tests may open fewer files. Gateways take turns on one port, so the public
                // address is checked.
                let text = try config("haproxy/haproxy.cfg")
                    .replacing("maxconn 200000", with: "maxconn 1000")
                    .replacing("bind :80", with: "bind 127.0.0.1:\(port)")
                    .replacing("bind :443 ", with: "bind 127.0.0.1:\(securePort) ")
                    .replacing("/etc/haproxy/gavelcast.pem", with: folder + "/pair.pem")
                    .replacing("check port 9080", with: "check")
                    .replacing(
                        "httpchk GET /readyz\n    server one 127.0.0.1:\(gatewayPort)",
                        with: "httpchk GET /v1/time\n    server one 127.0.0.1:\(gatewayPort)")
                try text.write(toFile: path, atomically: true, encoding: .utf8)
                try [certificate.certificate, certificate.key].map {
                    try String(contentsOfFile: $0, encoding: .utf8)
                }.joined().write(toFile: folder + "/pair.pem", atomically: true, encoding: .utf8)
                process = try ChildProcess("haproxy", ["/usr/sbin/haproxy", "-f", path, "-db"])
            }
            try eventually("\(kind) serves") {
                guard process.isRunning else { throw TimedOut(description: "\(kind) ended: \(process.log)") }
                return (try? HTTPClient(port: self.port).request("GET", "/v1/time").status) == 200
            }
        }
    }

    @Test(
        "WebSockets and event streams pass the proxy at once; limits count the client",
        arguments: Kind.allCases)
    func watching(kind: Kind) throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(
            redis: [redis.url],
            arguments: ["--trusted-proxies", "127.0.0.1", "--max-connections-per-ip", "1"])
        let proxy = try Proxy(kind, gatewayPort: gateway.port)
        let fields = ["X-Forwarded-For": "203.0.113.7"]
        let socket = try WebSocketClient(port: proxy.port, path: "/v1/auctions/a1/live", fields: fields)
        #expect(socket.handshake.status == 101)
        let stream = try EventStreamClient(
            port: proxy.port, path: "/v1/auctions/a1/live", fields: ["X-Forwarded-For": "203.0.113.8"])
        guard case .text(let first)? = try socket.next() else {
            Issue.record("no first message")
            return
        }
        #expect(try Received(first).type == "SNAPSHOT")
        // An event that is published before the stream has begun is part of its first message.
        while let message = try stream.next(milliseconds: 10_000), !message.data.contains("SNAPSHOT") {}
        let event = #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#
        try redis.publish("a1", event)
        guard case .text(let text)? = try socket.next() else {
            Issue.record("no event")
            return
        }
        #expect(text == event)
        var data: [String] = []
        while !data.contains(event), let message = try stream.next(milliseconds: 10_000) {
            data.append(message.data)
        }
        #expect(data.contains(event))
    }

    @Test("clients get HTTP/2, and event streams pass it at once", arguments: Kind.allCases)
    func http2(kind: Kind) throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--trusted-proxies", "127.0.0.1"])
        let proxy = try Proxy(kind, gatewayPort: gateway.port)
        let curl = try ChildProcess(
            "curl",
            [
                "/usr/bin/curl", "--silent", "--no-buffer", "--header", "Accept: text/event-stream",
                "--http2", "--cacert",
                proxy.certificate.certificate,
                "--max-time", "60", "--include",
                "https://127.0.0.1:\(proxy.securePort)/v1/auctions/a1/live",
            ])
        try eventually("the first message") { curl.log.contains("SNAPSHOT") }
        #expect(curl.log.hasPrefix("HTTP/2 200"), "\(curl.log)")
        try redis.publish("a1", #"{"type":"BID_UPDATE","auction_id":"a1","seq":1}"#)
        try eventually("the event") { curl.log.contains(#""seq":1"#) }
    }

    /// The status that `curl` gets when it connects from this loopback address.
    private func status(from address: String, _ proxy: Int) throws -> String {
        let curl = try ChildProcess(
            "curl",
            [
                "/usr/bin/curl", "--silent", "--insecure", "--interface", address, "--max-time", "20",
                "--output", "/dev/null", "--write-out", "%{http_code}", "https://127.0.0.1:\(proxy)/v1/time",
            ])
        return curl.waitForExit() == 0 ? curl.log : "no answer"
    }

    @Test("a proxy that passes TLS through names its clients, and limits count these")
    func passthrough() throws {
        let redis = try RedisServer()
        let gateway = try GatewayProcess(
            redis: [redis.url],
            arguments: [
                "--trusted-proxies", "127.0.0.1/32", "--proxy-protocol", "--max-connections-per-ip", "1",
            ])
        let port = try Ports.free()
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(
            contentsOf: root.appendingPathComponent("config/haproxy/passthrough.cfg"), encoding: .utf8
        )
        .replacing("maxconn 200000", with: "maxconn 1000")
        .replacing("bind :443", with: "bind 127.0.0.1:\(port)")
        .replacing("127.0.0.1:8443", with: "127.0.0.1:\(gateway.securePort)")
        .replacing("check port 9080", with: "check port \(gateway.adminPort)")
        let path = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).cfg"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        let haproxy = try ChildProcess("haproxy", ["/usr/sbin/haproxy", "-f", path, "-db"])
        try eventually("HAProxy serves") {
            guard haproxy.isRunning else { throw TimedOut(description: "HAProxy ended: \(haproxy.log)") }
            return try self.status(from: "127.0.0.9", port) == "200"
        }
        let watcher = try ChildProcess(
            "curl",
            [
                "/usr/bin/curl", "--silent", "--no-buffer", "--header", "Accept: text/event-stream",
                "--insecure", "--interface", "127.0.0.2",
                "https://127.0.0.1:\(port)/v1/auctions/a1/live",
            ])
        try eventually("the first message") { watcher.log.contains("SNAPSHOT") }
        #expect(try status(from: "127.0.0.2", port) == "429")
        #expect(try status(from: "127.0.0.3", port) == "200")
        // A trusted proxy's connection must begin with the header.
        #expect(throws: SocketFailure.self) { try HTTPClient(port: gateway.port).request("GET", "/v1/time") }
    }

    @Test("gateways are released in turn behind a proxy, and no request notices", arguments: Kind.allCases)
    func restarts(kind: Kind) throws {
        let redis = try RedisServer()
        let arguments = ["--reuse-port"]
        var gateway = try GatewayProcess(redis: [redis.url], arguments: arguments)
        let port = try Proxy(kind, gatewayPort: gateway.port)
        let isOver = Locked(false)
        let failures = Locked<[String]>([])
        let count = Locked(0)
        let publicPort = port.port
        let group = DispatchGroup()
        for _ in 0..<4 {
            group.enter()
            Thread {
                defer { group.leave() }
                let client = HTTPClient(port: publicPort)
                while !isOver.with({ $0 }) {
                    do {
                        let status = try client.request("GET", "/v1/time").status
                        count.with { $0 += 1 }
                        if status != 200 { failures.with { $0.append("\(status)") } }
                    } catch {
                        failures.with { $0.append("\(error)") }
                    }
                    Clock.pause(milliseconds: 2)
                }
            }.start()
        }
        let (restarts, requests) = Self.measures ? (20, 10_000) : (5, 500)
        for _ in 0..<restarts {
            let new = try GatewayProcess(redis: [redis.url], arguments: arguments, sharingPortOf: gateway)
            gateway.process.kill(SIGTERM)
            try eventually("the old gateway ends") { !gateway.process.isRunning }
            gateway = new
        }
        if Self.measures {
            try eventually("enough requests", within: 120) { count.with { $0 } >= requests }
        }
        isOver.with { $0 = true }
        group.wait()
        if Self.measures {
            print(
                "FIGURE \(kind), \(restarts) restarts: \(count.with { $0 }) requests, \(failures.with { $0.count }) failed"
            )
        }
        #expect(failures.with { $0 } == [])
        #expect(count.with { $0 } > requests)
    }
}
