import Testing
import Wire

/// PROXY protocol, version 2. The vectors follow the tables of the specification, section 2.2.
@Suite struct ProxyHeaderTests {
    private static let signature: [UInt8] = Array("\r\n\r\n\0\r\nQUIT\n".utf8)

    private static func header(
        command: UInt8 = 0x21, family: UInt8 = 0x11, _ body: [UInt8]
    ) -> [UInt8] {
        signature + [command, family, UInt8(body.count >> 8), UInt8(body.count & 0xFF)] + body
    }

    private static let version4: [UInt8] = [203, 0, 113, 7, 127, 0, 0, 1, 0xC0, 0x01, 0x1F, 0x90]
    private static let version6: [UInt8] =
        [0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [9]
        + [UInt8](repeating: 0, count: 15) + [1] + [0xC0, 0x01, 0x1F, 0x90]

    @Test("IPv4 and IPv6 clients are named; what the proxy adds to them is skipped")
    func clients() {
        #expect(ProxyHeader.read(Self.header(Self.version4)) == .complete(client: [203, 0, 113, 7]))
        let addition: [UInt8] = [0x05, 0x00, 0x02, 0xAB, 0xCD]
        #expect(
            ProxyHeader.read(Self.header(Self.version4 + addition)) == .complete(client: [203, 0, 113, 7]))
        #expect(
            ProxyHeader.read(Self.header(family: 0x21, Self.version6))
                == .complete(client: Array(Self.version6.prefix(16))))
    }

    @Test("a proxy that speaks for itself, or for a client without an Internet address, names nobody")
    func nobody() {
        #expect(ProxyHeader.read(Self.header(command: 0x20, family: 0, [])) == .complete(client: nil))
        #expect(ProxyHeader.read(Self.header(command: 0x20, Self.version4)) == .complete(client: nil))
        #expect(ProxyHeader.read(Self.header(family: 0, [])) == .complete(client: nil))
        #expect(
            ProxyHeader.read(Self.header(family: 0x31, [UInt8](repeating: 0, count: 216)))
                == .complete(client: nil))
    }

    @Test("for a header that is cut anywhere, the reader asks for the rest and no more")
    func cuts() {
        let whole = Self.header(Self.version4)
        for count in 0..<whole.count {
            let needed = count < 16 ? 16 : whole.count
            #expect(ProxyHeader.read(Array(whole.prefix(count))) == .incomplete(needed: needed))
        }
    }

    @Test(
        "anything else is refused, and a wrong first byte at once",
        arguments: [
            Array("GET / HTTP/1.1\r\n".utf8), Array("PROXY TCP4 203.0.113.7 127.0.0.1 49153 8080\r\n".utf8),
            header(command: 0x11, version4), header(command: 0x2F, version4),
            header(Array(version4.dropLast())), header(family: 0x21, version4),
            signature + [0x21, 0x11, 0xFF, 0xFF],
        ])
    func invalid(bytes: [UInt8]) {
        #expect(ProxyHeader.read(bytes) == .invalid)
        #expect(ProxyHeader.read([bytes[0] &+ 1]) == .invalid)
    }
}
