// Reconciles every watcher's account with what was published.

package import LoadEngine

package enum Audit {
    private static let findingsShown = 20

    /// - Parameters:
    ///   - accounts: of one group's threads.
    ///   - truth: by auction.
    package static func reconcile(
        _ accounts: [ShardAccounts], with truth: [AuctionTruth], auctions: [String], group: String,
        into report: inout AuditReport
    ) {
        var reconciliations = truth.map { Reconciliation($0) }
        report.events += truth.reduce(0) { $0 + Int($1.last) }
        func blame(_ fault: Fault, _ count: Int = 1) { report.faults[fault.rawValue, default: 0] += count }
        func tell(_ watcher: Int, _ auction: Int, _ sequence: UInt64, _ fault: Fault) {
            guard report.findings.count < findingsShown else { return }
            report.findings.append(
                "watcher \(watcher) of \(group), auction \(auctions[auction]), at seq \(sequence): \(fault.rawValue)"
            )
        }
        for shard in accounts {
            report.declaredJumps += shard.declaredJumps
            for (fault, count) in shard.faults { blame(fault, count) }
            for finding in shard.findings {
                tell(finding.watcher, finding.auction, finding.sequence, finding.fault)
            }
            for (auction, arrivals) in shard.ledger.arrivals.enumerated() {
                for (index, arrival) in arrivals.enumerated() where arrival.hash != 0 {
                    guard index >= truth[auction].hashes.count || truth[auction].hashes[index] != arrival.hash
                    else { continue }
                    blame(.contentDiffers)
                }
            }
            for watch in shard.watches {
                report.watches += 1
                report.applied += Int(watch.segment.applied)
                report.merged += Int(watch.segment.merged)
                guard
                    let fault = reconciliations[watch.auction].check(
                        watch.segment, mustReachEnd: watch.mustReachEnd)
                else { continue }
                blame(fault)
                tell(watch.watcher, watch.auction, watch.segment.last, fault)
            }
        }
    }
}
