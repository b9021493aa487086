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
                == EventEnvelope(kind: .bidUpdate, sequence: 7, type: "BID_UPDATE"))
        #expect(
            try scan(#"{"seq":9007199254740991,"x":{"type":"no"},"type":"AUCTION_ENDED"}"#).get()
                == EventEnvelope(kind: .auctionEnded, sequence: 9_007_199_254_740_991, type: "AUCTION_ENDED"))
        #expect(
            try scan(#"{"type":"GIFT","auction_id":"a1"}"#).get()
                == EventEnvelope(kind: .other, sequence: 0, type: "GIFT"))
    }

    @Test(
        "an envelope that breaks the contract is refused with its reason",
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

    @Test("escapes in keys and values mean what they stand for")
    func escapes() throws {
        #expect(
            try scan(#"{"t\u0079pe":"BID\u005FUPDATE","auction\u005fid":"\u0061\u0031","s\u0065q":7}"#).get()
                == EventEnvelope(kind: .bidUpdate, sequence: 7, type: "BID_UPDATE"))
        #expect(scan(#"{"type":"A","auction_\u0069d":"a2"}"#) == .failure(.otherAuction))
        #expect(scan(#"{"type":"A\nid: 9"}"#) == .failure(.noType), "an event stream could not name it")
        #expect(scan(#"{"type":"\ud800"}"#) == .failure(.noType))
        #expect(try scan(#"{"type":"\ud83d\udd28"}"#).get().type == "\u{1F528}")
    }

    @Test(
        "a member that is there twice is refused, however it is written and however deep",
        arguments: [
            #"{"type":"A","type":"A"}"#, #"{"type":"A","seq":1,"seq":1}"#, #"{"type":"A","t\u0079pe":"B"}"#,
            #"{"type":"A","x":{"y":[{"z":1,"\u007a":2}]}}"#,
        ])
    func duplicates(text: String) {
        #expect(scan(text) == .failure(.duplicateMember))
    }

    @Test("a duplicate is found among very many members")
    func manyMembers() throws {
        let members = (0..<1_000).map { #""m\#($0)":0"# }.joined(separator: ",")
        #expect(try scan(#"{"type":"A",\#(members)}"#).get().kind == .other)
        for name in ["m0", "m23", "m24", "m999", "type"] {
            #expect(scan(#"{"type":"A",\#(members),"\#(name)":0}"#) == .failure(.duplicateMember))
        }
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
