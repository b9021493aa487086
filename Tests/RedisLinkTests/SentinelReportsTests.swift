import Reactor
import Testing

@testable import RedisLink

/// Which Sentinel is believed.
@Suite struct SentinelReportsTests {
    private static func report(_ port: UInt16, epoch: Int64) throws -> SentinelReports.Report {
        let address = SocketAddress(host: "127.0.0.1", port: port)
        return SentinelReports.Report(
            host: address.host, port: port, epoch: epoch, addresses: try address.resolve())
    }

    @Test("the Sentinel with the highest epoch is believed, and one that was cut off is not")
    func highestEpoch() throws {
        var reports = SentinelReports(count: 3)
        #expect(reports.answer(now: 0) == .pending)
        reports.take(try Self.report(1, epoch: 4), from: 0, now: 0)
        #expect(reports.master(now: 0)?.port == 1)
        reports.take(try Self.report(2, epoch: 5), from: 1, now: 1)
        reports.take(try Self.report(1, epoch: 4), from: 2, now: 2)
        #expect(reports.master(now: 2)?.port == 2)
    }

    @Test("an answer that is old counts only while there is no other")
    func oldAnswers() throws {
        var reports = SentinelReports(count: 2)
        reports.take(try Self.report(2, epoch: 5), from: 0, now: 0)
        let later = SentinelReports.validMilliseconds + 1
        #expect(reports.master(now: later)?.port == 2)
        reports.take(try Self.report(1, epoch: 1), from: 1, now: later)
        #expect(reports.master(now: later)?.port == 1, "the Sentinels were set up anew")
    }

    @Test("when every Sentinel has failed the first reason is given, and known addresses stay in use")
    func failures() throws {
        var reports = SentinelReports(count: 2)
        reports.failed("one is down", from: 0)
        #expect(reports.answer(now: 0) == .pending)
        reports.failed("two is down", from: 1)
        #expect(reports.answer(now: 0) == .failed("one is down"))
        reports.take(try Self.report(1, epoch: 1), from: 1, now: 0)
        reports.failed("two is down", from: 1)
        guard case .address = reports.answer(now: 0) else {
            Issue.record("the known address is not used")
            return
        }
    }

    @Test("known addresses outlive a failed look-up of the same host and port, but not of another")
    func lookUps() throws {
        var reports = SentinelReports(count: 1)
        let known = try Self.report(1, epoch: 1)
        reports.take(known, from: 0, now: 0)
        reports.take(.init(host: known.host, port: 1, epoch: 2), from: 0, now: 1)
        #expect(reports.master(now: 1)?.addresses == known.addresses && reports.master(now: 1)?.epoch == 2)
        reports.take(.init(host: known.host, port: 2, epoch: 3), from: 0, now: 2)
        #expect(reports.master(now: 2)?.addresses == [])
    }

    @Test("a reply that does not describe a master is no report")
    func replies() {
        func text(_ text: String) -> RedisReply { .bytes(Array(text.utf8)) }
        let fields = ["name", "m", "flags", "master,o_down", "config-epoch", "3"].map(text)
        let address = RedisReply.array(["h", "6379"].map(text))
        #expect(
            SentinelReports.Report(.array(fields), address: address)
                == SentinelReports.Report(host: "h", port: 6_379, epoch: 3, isUnsettled: true))
        let others: [RedisReply] = [
            .null, .error("ERR No such master"), .array([]), .array(fields.dropLast()),
        ]
        for wrong in others {
            #expect(SentinelReports.Report(wrong, address: address) == nil)
            #expect(SentinelReports.Report(.array(fields), address: wrong) == nil)
        }
    }
}
