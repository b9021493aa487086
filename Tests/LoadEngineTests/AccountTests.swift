import LoadEngine
import LoadRun
import TestSupport
import Testing

@Suite struct AccountTests {
    private func message(_ json: String) -> ScannedMessage {
        Array(json.utf8).withUnsafeBytes { ScannedMessage($0) }
    }

    private func event(_ sequence: UInt64, from first: UInt64? = nil, lossless: Bool = false)
        -> ScannedMessage
    {
        let type = lossless ? "TIME_EXTENDED" : "BID_UPDATE"
        let merged = first.map { #""from_seq":\#($0),"# } ?? ""
        return message(
            #"{\#(merged)"type":"\#(type)","auction_id":"a","seq":\#(sequence),"due_us":1768073400123456}"#)
    }

    private func truth(_ count: UInt64, losslessEvery: UInt64 = 5) -> AuctionTruth {
        (1...count).reduce(into: AuctionTruth()) {
            let isLossless = $1.isMultiple(of: losslessEvery)
            $0.append(hash: event($1, lossless: isLossless).hash, isLossless: isLossless)
        }
    }

    private func snapshot(_ sequence: UInt64) -> ScannedMessage {
        message(#"{"type":"SNAPSHOT","auction_id":"a","seq":\#(sequence),"complete":true,"state":null}"#)
    }

    @Test("a message's kind, place, due time and content are read, and a merged event's content is the same")
    func scan() {
        let plain = event(7)
        #expect(plain.kind == .bid && plain.sequence == 7 && plain.first == 7)
        #expect(plain.dueMicroseconds == 1_768_073_400_123_456)
        let merged = event(7, from: 3)
        #expect(merged.first == 3 && merged.sequence == 7 && merged.hash == plain.hash)
        #expect(event(8).hash != plain.hash)
        #expect(event(9, lossless: true).kind == .lossless)
        let resumed = message(
            #"{"type":"RESUMED","auction_id":"a","since":4,"seq":9,"replayed":5,"complete":true}"#)
        #expect(resumed.kind == .resumed && resumed.since == 4 && resumed.isComplete)
        let timed = message(#"{"type":"BID_UPDATE","seq":1,"server_time":"2026-01-10T19:30:00.123Z"}"#)
        #expect(timed.dueMicroseconds == 1_768_073_400_123_000)
        #expect(message(#"{"type":"VIEWERS","auction_id":"a","count":5}"#).kind == .viewers)
        for broken in ["", "{", "{}", #"{"seq":"#, #"{"from_seq":"#, #"{"type":"#] {
            #expect(message(broken).kind == .other)
        }
    }

    @Test("any split of the truth into merged events, resumes and declared jumps passes; seeded")
    func sound() {
        var generator = SeededGenerator.announced("sound accounts")
        for _ in 0..<300 {
            let truth = truth(60)
            var reconciliation = Reconciliation(truth)
            var account = Account()
            var at = UInt64.random(in: 0...20, using: &generator)
            #expect(account.take(snapshot(at)) == .passed)
            while at < 60 {
                switch Int.random(in: 0..<12, using: &generator) {
                case 0:
                    let resumed = message(#"{"type":"RESUMED","since":\#(at),"seq":60,"complete":true}"#)
                    #expect(account.take(resumed) == .passed)
                case 1:
                    at = min(60, at + UInt64.random(in: 1...5, using: &generator))
                    guard case .jumped(let closed) = account.take(snapshot(at)) else {
                        Issue.record("a jump that was not noticed")
                        continue
                    }
                    #expect(reconciliation.check(closed, mustReachEnd: false) == nil)
                default:
                    // Merged bids end before the next lossless event.
                    let next = at + 1
                    var last = next
                    if !next.isMultiple(of: 5) {
                        last = min(60, UInt64.random(in: next...(next / 5 * 5 + 4), using: &generator))
                    }
                    let merged = event(
                        last, from: last == next ? nil : next, lossless: last.isMultiple(of: 5))
                    #expect(account.take(merged) == .applied)
                    at = last
                }
            }
            #expect(reconciliation.check(account.segment, mustReachEnd: true) == nil)
        }
    }

    @Test("each way of breaking a promise is a fault of its own")
    func unsound() {
        let truth = truth(10)
        func faults(_ messages: [ScannedMessage], mustReachEnd: Bool = false) -> [Fault] {
            var account = Account()
            var found: [Fault] = []
            for message in messages {
                if case .fault(let fault) = account.take(message) { found.append(fault) }
            }
            var reconciliation = Reconciliation(truth)
            return found
                + [reconciliation.check(account.segment, mustReachEnd: mustReachEnd)].compactMap { $0 }
        }
        #expect(faults([snapshot(0), event(1), event(2)]) == [])
        #expect(faults([event(1)]) == [.noFirstMessage])
        #expect(faults([snapshot(0), event(1), event(1)]) == [.seenTwice])
        #expect(faults([snapshot(0), event(2), event(1)]).contains(.seenTwice))
        #expect(faults([snapshot(0), event(1), event(3)]) == [.undeclaredJump, .countDiffers])
        #expect(faults([snapshot(0), event(1), event(2), event(3, from: 2)]).first == .overlap)
        let wrong = message(#"{"type":"RESUMED","since":3,"seq":9,"complete":true}"#)
        #expect(faults([snapshot(0), event(1), wrong]) == [.wrongResume])
        #expect(
            faults([snapshot(4), event(6, from: 5)]) == [.chainDiffers], "a lossless event was merged away")
        #expect(faults([snapshot(4), event(5)]) == [.chainDiffers], "a bid in a lossless event's place")
        #expect(faults([snapshot(10), event(11)]) == [.beyondTruth])
        #expect(faults([snapshot(0), event(1)], mustReachEnd: true) == [.lost])
    }

    @Test("a scenario is refused for any key that is unknown, missing or wrong, and the key is named")
    func scenarios() throws {
        let good = """
            summary: s
            groups: [{name: g, watchers: 10}]
            steps: [{do: connect}, {do: publish, rate: 5, events: 3}]
            """
        _ = try Scenario(yaml: good, name: "good")
        for (text, with, named) in [
            ("summary: s", "summry: s", "summary"), ("watchers: 10", "watchers: many", "groups[0].watchers"),
            ("watchers: 10", "watchers: 10, colour: red", "groups[0].colour"),
            ("do: connect", "do: dance", "steps[0].do"),
            ("do: connect", "do: connect, group: h", "steps[0].group"), ("rate: 5, ", "", "steps[1].rate"),
            ("name: g", "name: g, server: floor", "floor"),
            ("watchers: 10", "watchers: 10, transports: [udp]", "transports"),
        ] {
            let bad = good.replacing(text, with: with)
            let refusal = #expect(throws: ScenarioError.self) { _ = try Scenario(yaml: bad, name: "bad") }
            #expect(refusal?.description.contains(named) == true, "\(refusal?.description ?? "")")
        }
    }
}
