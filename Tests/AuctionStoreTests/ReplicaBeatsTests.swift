import Testing

@testable import AuctionStore

/// How old a replica's data may be.
@Suite struct ReplicaBeatsTests {
    private static func beat(_ number: Int64, origin: String = "first") -> ReplicaBeat {
        ReplicaBeat(number: number, origin: origin)
    }

    @Test("data are as old as the request for the newest beat that they contain")
    func age() {
        var beats = ReplicaBeats(limitMilliseconds: 5_000)
        #expect(beats.ageMilliseconds(of: Self.beat(1), now: 0) == nil, "nothing is known yet")
        beats.record(Self.beat(10), askedAt: 1_000)
        // Another bid API has counted the eleventh.
        beats.record(Self.beat(12), askedAt: 2_000)
        #expect(beats.ageMilliseconds(of: Self.beat(9), now: 2_100) == nil)
        #expect(beats.ageMilliseconds(of: Self.beat(10), now: 2_100) == 1_100)
        #expect(beats.ageMilliseconds(of: Self.beat(11), now: 2_100) == 1_100)
        #expect(beats.ageMilliseconds(of: Self.beat(12), now: 2_100) == 100)
        #expect(beats.ageMilliseconds(of: Self.beat(13), now: 2_100) == 100)
    }

    @Test("data older than the limit are of no use, also when no new beats come")
    func limit() {
        var beats = ReplicaBeats(limitMilliseconds: 5_000)
        beats.record(Self.beat(1), askedAt: 0)
        #expect(beats.ageMilliseconds(of: Self.beat(1), now: 5_000) == 5_000)
        #expect(beats.ageMilliseconds(of: Self.beat(1), now: 5_001) == nil)
        beats.record(Self.beat(2), askedAt: 5_001)
        #expect(beats.ageMilliseconds(of: Self.beat(1), now: 5_001) == nil)
    }

    @Test("after a failover, or after the primary was restored, earlier beats no longer count")
    func otherPrimary() {
        var beats = ReplicaBeats(limitMilliseconds: 5_000)
        beats.record(Self.beat(10), askedAt: 0)
        beats.record(Self.beat(10, origin: "second"), askedAt: 100)
        #expect(
            beats.ageMilliseconds(of: Self.beat(11), now: 100) == nil, "it still follows the first primary")
        #expect(beats.ageMilliseconds(of: Self.beat(10, origin: "second"), now: 100) == 0)
        beats.record(Self.beat(3, origin: "second"), askedAt: 200)
        #expect(beats.ageMilliseconds(of: Self.beat(2, origin: "second"), now: 200) == nil)
        #expect(beats.ageMilliseconds(of: Self.beat(3, origin: "second"), now: 200) == 0)
    }
}
