import CLinux
import Glibc
import LocalServers
import Reactor
import Testing
import TransportSecurity

/// Both ends of a TLS connection over a socket pair, in one thread.
@Suite struct TLSSessionTests {
    private struct Ends {
        let client: TLSSession
        let server: TLSSession
        let descriptors: [Int32]

        init(_ server: TLSServerContext, _ client: TLSClientContext, host: String = "127.0.0.1") throws {
            var pair: [Int32] = [0, 0]
            try #require(socketpair(AF_UNIX, Int32(gavelcast_stream | gavelcast_nonblocking), 0, &pair) == 0)
            descriptors = pair
            self.client = try #require(TLSSession(client, host: host, descriptor: pair[0]))
            self.server = try #require(TLSSession(server, descriptor: pair[1]))
        }

        /// Takes steps on both ends until both are done, or one has failed.
        func shakeHands() -> (client: TLSSession.Handshake, server: TLSSession.Handshake) {
            var states = (client: TLSSession.Handshake.wantsToRead, server: TLSSession.Handshake.wantsToRead)
            for _ in 0..<20 where states.client != .complete || states.server != .complete {
                if states.client != .complete { states.client = client.handshake() }
                if states.server != .complete { states.server = server.handshake() }
            }
            return states
        }

        func end() {
            client.free()
            server.free()
            for descriptor in descriptors { Sockets.close(descriptor) }
        }
    }

    private func server(_ certificate: LocalCertificate) throws -> TLSServerContext {
        try TLSServerContext(
            [TLSCertificateFiles(certificate: certificate.certificate, key: certificate.key)], ticketKey: nil)
    }

    private func receive(_ session: TLSSession) -> (Sockets.Outcome, [UInt8]) {
        var bytes = [UInt8](repeating: 0, count: 32_768)
        let outcome = bytes.withUnsafeMutableBytes { session.receive(into: $0) }
        guard case .bytes(let count) = outcome else { return (outcome, []) }
        return (outcome, Array(bytes[..<count]))
    }

    @Test("what one end sends the other receives, and an announced end is a clean close")
    func exchange() throws {
        let certificate = try LocalCertificate()
        let ends = try Ends(try server(certificate), try certificate.client())
        defer { ends.end() }
        let states = ends.shakeHands()
        #expect(states.client == .complete && states.server == .complete)
        let message = Array("a price".utf8)
        #expect(message.withUnsafeBytes { ends.server.send($0) } == .bytes(message.count))
        // The first records may be session tickets, which bring nothing.
        var received: [UInt8] = []
        for _ in 0..<5 where received.isEmpty { received = receive(ends.client).1 }
        #expect(received == message)
        #expect(receive(ends.client).0 == .wouldBlock)
        ends.server.announceEnd()
        #expect(receive(ends.client).0 == .closed)
    }

    @Test("a client that does not know the authority, or expects another host, refuses the server")
    func strangers() throws {
        let certificate = try LocalCertificate()
        let other = try LocalCertificate()
        for (authority, host) in [(other, "127.0.0.1"), (certificate, "elsewhere.example")] {
            let ends = try Ends(try server(certificate), try authority.client(), host: host)
            defer { ends.end() }
            guard case .failed = ends.shakeHands().client else {
                Issue.record("the client accepted it")
                return
            }
        }
    }

    @Test("a plain request on the TLS port is told apart from other noise")
    func plainRequest() throws {
        let certificate = try LocalCertificate()
        for (text, isRequest) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true), ("\u{1}\u{2}noise noise", false),
        ] {
            let ends = try Ends(try server(certificate), try certificate.client())
            defer { ends.end() }
            _ = Array(text.utf8).withUnsafeBytes { Sockets.send(ends.descriptors[0], $0) }
            guard case .failed(let reason) = ends.server.handshake() else {
                Issue.record("the handshake goes on")
                return
            }
            #expect((reason == TLSSession.plainRequest) == isRequest)
        }
    }
}
