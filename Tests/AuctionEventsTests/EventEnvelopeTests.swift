import AuctionEvents
import Testing

@Suite struct EventEnvelopeTests {
    private func scan(_ text: String) -> Result<EventEnvelope, EventEnvelope.Rejection> {
        EventEnvelope.scan(Array(text.utf8).span, auctionID: "a1")
    }

    @Test("type and sequence number are read, in any order")
    func reads() throws {
        #expect(
            try scan(#"{"type":"BID_UPDATE","auction_id":"a1","seq":7}"#).get()
                == EventEnvelope(kind: .bidUpdate, sequence: 7, type: 9..<19))
        #expect(
            try scan(#"{"seq":9007199254740991,"x":{"type":"no"},"type":"AUCTION_ENDED"}"#).get()
                == EventEnvelope(kind: .auctionEnded, sequence: 9_007_199_254_740_991, type: 50..<63))
        #expect(
            try scan(#"{"type":"GIFT","auction_id":"a1"}"#).get()
                == EventEnvelope(kind: .other, sequence: 0, type: 9..<13))
    }

    @Test(
        "what the contract refuses is refused for its reason",
        arguments: [
            ("garbage", EventEnvelope.Rejection.notJSONObject), ("[1]", .notJSONObject), ("", .notJSONObject),
            (#"{"type":"BID_UPDATE","auction_id":"a2","seq":1}"#, .otherAuction),
            (#"{"type":"BID_UPDATE","auction_id":1,"seq":1}"#, .otherAuction),
            (#"{"seq":1}"#, .noType), (#"{"type":3,"seq":1}"#, .noType), (#"{"type":"","seq":1}"#, .noType),
            (#"{"type":"A","seq":0}"#, .badSequence), (#"{"type":"A","seq":-1}"#, .badSequence),
            (#"{"type":"A","seq":1.5}"#, .badSequence), (#"{"type":"A","seq":"1"}"#, .badSequence),
            (#"{"type":"A","seq":9007199254740992}"#, .badSequence),
            (#"{"type":"A","seq":1e3}"#, .badSequence),
        ])
    func refuses(text: String, reason: EventEnvelope.Rejection) {
        #expect(scan(text) == .failure(reason))
    }

    @Test("size and encoding are checked before anything else")
    func checksBytes() {
        let large = #"{"type":"A","x":""# + String(repeating: "y", count: EventEnvelope.maximumBytes) + "\"}"
        #expect(scan(large) == .failure(.tooLarge))
        let bytes: [UInt8] = Array(#"{"type":""#.utf8) + [0xFF, 0xC0] + Array("\"}".utf8)
        #expect(EventEnvelope.scan(bytes.span, auctionID: "a1") == .failure(.notUTF8))
        let surrogate: [UInt8] = Array(#"{"type":""#.utf8) + [0xED, 0xA0, 0x80] + Array("\"}".utf8)
        #expect(EventEnvelope.scan(surrogate.span, auctionID: "a1") == .failure(.notUTF8))
    }
}
