import Testing
import Wire

@Suite struct MessageCompressionTests {
    private func answer(_ offers: String) -> String? {
        let bytes = Array(offers.utf8)
        return MessageCompression(offers: bytes.span, 0..<bytes.count)?.answer
    }

    private let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

    @Test("an offer is answered without taking contexts over")
    func accepts() {
        #expect(answer("permessage-deflate") == plain)
        #expect(answer("Permessage-Deflate; client_max_window_bits") == plain)
        #expect(answer("permessage-deflate; client_max_window_bits=10; server_no_context_takeover") == plain)
        #expect(answer("x-unknown, permessage-deflate") == plain)
    }

    @Test("the window that a client asks for is kept to, and told back")
    func windows() {
        #expect(
            answer("permessage-deflate; server_max_window_bits=9") == plain + "; server_max_window_bits=9")
        #expect(
            answer("permessage-deflate; server_max_window_bits=\"15\"") == plain
                + "; server_max_window_bits=15")
        // The second offer can be met, the first cannot.
        #expect(answer("permessage-deflate; server_max_window_bits=8, permessage-deflate") == plain)
    }

    @Test(
        "what RFC 7692 forbids is not accepted",
        arguments: [
            "", "x", "permessage-deflate; x", "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010", "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=", "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        ])
    func refuses(offer: String) {
        #expect(answer(offer) == nil)
    }
}
