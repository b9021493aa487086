import Reactor
import Testing

@Suite struct ClientAddressTests {
    private func address(_ text: String) throws -> ClientAddress { try #require(ClientAddress(text: text)) }

    @Test("IPv4 counts by address, IPv6 by /64")
    func networks() throws {
        #expect(try address("10.1.2.3").network == address("10.1.2.3"))
        #expect(try address("10.1.2.3").network != address("10.1.2.4").network)
        #expect(try address("2001:db8:1:2::1").network == address("2001:db8:1:2:ffff::9").network)
        #expect(try address("2001:db8:1:2::1").network != address("2001:db8:1:3::1").network)
        #expect(try address("::ffff:10.1.2.3") == address("10.1.2.3"))
        #expect(try address("2001:db8::1").description == "2001:db8::1")
        #expect(try address("10.1.2.3").description == "10.1.2.3")
        for text in ["", "10.1.2", "10.1.2.3.4", "10.1.2.256", "x", "1.2.3.4:80", "2001:db8::g"] {
            #expect(ClientAddress(text: text) == nil, "\(text)")
        }
    }

    @Test("blocks contain what their length says")
    func blocks() throws {
        let cases: [(String, String, Bool)] = [
            ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true), ("10.0.0.1", "10.0.0.2", false), ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false), ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false), ("2001:db8::/65", "2001:db8::1", true),
            ("2001:db8::/65", "2001:db8:0:0:8000::1", false), ("::/0", "10.1.1.1", true),
        ]
        for (block, client, isInside) in cases {
            let contains = try #require(AddressBlock(text: block)).contains(try address(client))
            #expect(contains == isInside, "\(client) in \(block)")
        }
        for text in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "x/8", "2001:db8::/129"] {
            #expect(AddressBlock(text: text) == nil, "\(text)")
        }
    }

    @Test("X-Forwarded-For counts from trusted proxies only, and only as far as they wrote it")
    func forwarded() throws {
        let trusted = [
            try #require(AddressBlock(text: "10.0.0.0/8")), try #require(AddressBlock(text: "fd00::/8")),
        ]
        let cases: [(field: String, peer: String, client: String)] = [
            ("1.1.1.1", "10.0.0.1", "1.1.1.1"), ("1.1.1.1", "9.9.9.9", "9.9.9.9"),
            ("", "9.9.9.9", "9.9.9.9"),
            // What the client itself claimed stands on the left.
            ("6.6.6.6, 1.1.1.1", "10.0.0.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1, 10.0.0.2", "10.0.0.1", "1.1.1.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.1", "10.0.0.3"), ("1.1.1.1:4711", "10.0.0.1", "1.1.1.1"),
            ("[2001:db8::1]:80", "fd00::1", "2001:db8::1"), ("2001:db8::1", "10.0.0.1", "2001:db8::1"),
            ("1.1.1.1, garbage", "10.0.0.1", "10.0.0.1"), ("1.1.1.1, , 10.0.0.2", "10.0.0.1", "1.1.1.1"),
        ]
        for (field, peer, client) in cases {
            let found = ForwardedClient.find(field, peer: try address(peer), trusted: trusted)
            #expect(try found == address(client), "'\(field)' by \(peer)")
        }
        for field in ["", " , "] {
            #expect(ForwardedClient.find(field, peer: try address("10.0.0.1"), trusted: trusted) == nil)
        }
    }
}
