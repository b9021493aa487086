// What Sentinels said last, and which of them is to be believed. Pure, but for the look-up of a master's
// name. ``SentinelWatch`` asks them.

import Reactor

struct SentinelReports: Sendable {
    /// How long an answer counts while other Sentinels give newer ones.
    static let validMilliseconds: Int64 = 15_000

    struct Report: Sendable, Equatable {
        let host: String
        let port: UInt16
        /// Counts the failovers; a higher one is newer.
        let epoch: Int64
        /// True while the Sentinel sees the master down, or replaces it.
        let isUnsettled: Bool
        /// Empty when the host's name is not known.
        var addresses: [ResolvedAddress] = []

        init(
            host: String, port: UInt16, epoch: Int64, isUnsettled: Bool = false,
            addresses: [ResolvedAddress] = []
        ) {
            self.host = host
            self.port = port
            self.epoch = epoch
            self.isUnsettled = isUnsettled
            self.addresses = addresses
        }

        /// - Parameters:
        ///   - reply: to SENTINEL MASTER, a list of names and values.
        ///   - address: the reply to SENTINEL GET-MASTER-ADDR-BY-NAME. It names the new master first.
        init?(_ reply: RedisReply, address: RedisReply) {
            guard let fields = reply.array, fields.count % 2 == 0 else { return nil }
            var values: [String: String] = [:]
            for index in stride(from: 0, to: fields.count, by: 2) {
                guard let name = fields[index].bytes, let value = fields[index + 1].bytes else { return nil }
                values[String(decoding: name, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
            }
            let place = (address.array ?? []).compactMap {
                $0.bytes.map { String(decoding: $0, as: UTF8.self) }
            }
            guard place.count == 2, let port = UInt16(place[1]),
                let epoch = values["config-epoch"].flatMap({ Int64($0) })
            else { return nil }
            let flags = values["flags"] ?? ""
            self.init(
                host: place[0], port: port, epoch: epoch,
                isUnsettled: flags.contains("down") || flags.contains("failover"))
        }

        /// With the host's addresses. Blocks when the host is a name.
        func resolved() -> Report {
            var report = self
            report.addresses = (try? SocketAddress(host: host, port: port).resolve()) ?? []
            return report
        }
    }

    private var reports: [(report: Report, at: Int64)?]
    private var failures: [String?]

    init(count: Int) {
        reports = [(report: Report, at: Int64)?](repeating: nil, count: count)
        failures = [String?](repeating: nil, count: count)
    }

    /// Takes a Sentinel's report. If the look-up of the master's name failed, the addresses known for the
    /// same host and port stay.
    mutating func take(_ report: Report, from index: Int, now: Int64) {
        var report = report
        if report.addresses.isEmpty, let known = reports[index]?.report,
            known.host == report.host, known.port == report.port
        {
            report.addresses = known.addresses
        }
        reports[index] = (report, now)
        failures[index] = nil
    }

    mutating func failed(_ reason: String, from index: Int) {
        failures[index] = reason
    }

    /// The master as the Sentinels see it; `nil` before the first answer. An old answer counts only when
    /// there is no other.
    func master(now: Int64) -> Report? {
        let all = reports.compactMap(\.self)
        let valid = all.filter { now - $0.at <= Self.validMilliseconds }
        let candidates = valid.isEmpty ? all : valid
        return candidates.max { ($0.report.epoch, $0.at) < ($1.report.epoch, $1.at) }?.report
    }

    func answer(now: Int64) -> RedisEndpoint.Answer {
        if let master = master(now: now) {
            guard let address = master.addresses.first else {
                return .failed("the Sentinels name \(master.host), which cannot be resolved")
            }
            return .address(address)
        }
        let reasons = failures.compactMap(\.self)
        return reasons.count == failures.count ? .failed(reasons[0]) : .pending
    }
}
