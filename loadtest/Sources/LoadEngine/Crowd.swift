// A crowd of watchers over as many threads as open files ask for, and the audit of what they applied.

import Glibc
import Reactor
import Synchronization

package final class Crowd {
    /// Descriptors of a thread that are not watchers'.
    private static let descriptorReserve = 64
    /// Threads that share the processors sleep longer, so that polling stays a small part of a processor.
    private static let pauseMicroseconds = 100

    package let plan: CrowdPlan
    package let progress = CrowdProgress()
    private var queues: [CommandQueue<ShardCommand>] = []
    private var capacities: [Int] = []

    package init(_ plan: CrowdPlan) {
        self.plan = plan
        let perThread = DescriptorLimit.raise() - Self.descriptorReserve
        let threads = max(plan.threads, (plan.watchers + perThread - 1) / perThread)
        var first = 0
        for index in 0..<threads {
            let capacity = (plan.watchers - first) / (threads - index)
            let shard = ShardPlan(
                crowd: plan, firstWatcher: first, capacity: capacity,
                connectRate: max(1, plan.connectRate / threads), sourceBlock: plan.firstSourceBlock + index,
                pauseMicroseconds: Self.pauseMicroseconds * max(1, threads))
            let queue = CommandQueue<ShardCommand>()
            let progress = progress
            _ = LoopThread(name: "watchers-\(index)") {
                Processor.takeOwnDescriptors()
                do throws(Errno) {
                    try WatcherShard(shard, commands: queue, progress: progress).run()
                } catch {
                    preconditionFailure("a thread of watchers cannot begin: \(error)")
                }
            }
            queues.append(queue)
            capacities.append(capacity)
            first += capacity
        }
    }

    /// Threads, and blocks of source addresses.
    package var threads: Int { queues.count }

    /// Goes on connecting until there are `count` watchers.
    package func connect(_ count: Int) {
        var rest = count
        for (index, queue) in queues.enumerated() {
            let part = min(capacities[index], (rest + queues.count - index - 1) / (queues.count - index))
            queue.post(.connect(part))
            rest -= part
        }
    }

    /// Tells the watchers how far apart the events of an auction are.
    package func eventInterval(microseconds: Int) {
        progress.eventInterval.store(microseconds, ordering: .relaxed)
    }

    /// What happened since the last collection.
    package func collect() -> CrowdReport {
        ask { .collect($0) }.reduce(into: CrowdReport()) { $0.merge($1) }
    }

    /// Healthy watchers that have not reached `targets`, the last event of each auction.
    package func countBehind(_ targets: [UInt64]) -> Behind {
        ask { .countBehind(targets, $0) }.reduce(into: Behind()) {
            $0.count += $1.count
            $0.example = $0.example ?? $1.example
        }
    }

    package func accounts() -> [ShardAccounts] {
        ask { .accounts($0) }
    }

    /// Closes all connections and ends the threads.
    package func stop() {
        let _: [Void] = ask { .stop($0) }
        queues = []
    }

    private func ask<Value: Sendable>(_ command: (Answer<Value>) -> ShardCommand) -> [Value] {
        let answers = queues.map { queue in
            let answer = Answer<Value>()
            queue.post(command(answer))
            return answer
        }
        return answers.map { $0.wait() }
    }
}
