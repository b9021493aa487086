// One thread of a crowd: it connects watchers, reads what they are sent and keeps their accounts. The thread
// has a table of open files of its own, so that a process holds as many watchers as it has threads for. It
// polls and sleeps instead of waiting: a client that waits in epoll costs the server a wake-up of the
// client's processor in every send.

import CLinux
import Compression
import Fanout
import Glibc
import Reactor
import TransportSecurity

enum ShardCommand: Sendable {
    /// Have so many watchers in all.
    case connect(Int)
    case collect(Answer<CrowdReport>)
    /// How many healthy watchers have not reached the last event of their auction.
    case countBehind([UInt64], Answer<Behind>)
    case accounts(Answer<ShardAccounts>)
    case stop(Answer<Void>)
}

/// A thread's part of a crowd.
struct ShardPlan: Sendable {
    let crowd: CrowdPlan
    /// The number of its first watcher, and how many it may have.
    let firstWatcher: Int
    let capacity: Int
    /// Connects a second, of this thread.
    let connectRate: Int
    /// Its block of source addresses: 127.a.b.1 and on.
    let sourceBlock: Int
    let pauseMicroseconds: Int
}

final class WatcherShard {
    static let receiveBytes = 65_536
    private static let connectsInFlight = 512
    static let tickMilliseconds: Int64 = 10
    private static let slowPauseMilliseconds: Int64 = 100
    static let slowReadBytes = 4_096
    /// Connections from one source address: well below its ports, where the search for a free one stays
    /// short.
    static let connectionsPerAddress = 5_000

    let plan: ShardPlan
    let progress: CrowdProgress
    private let commands: CommandQueue<ShardCommand>
    let poller: Poller
    var records: [WatcherRecord] = []
    var partials: [UInt32: [UInt8]] = [:]
    /// The TLS sessions of a crowd that has them.
    private var sessions: [UInt32: TLSSession] = [:]
    let inflater = MessageInflater()
    var timers: TimerWheel
    private var slow: [UInt32] = []
    private var nextSlowRead: Int64 = 0
    // SAFETY: allocated in init, freed in deinit, used by this thread only.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: receiveBytes, alignment: 16)

    // Accounts
    var report = CrowdReport()
    var accounts: ShardAccounts
    private var cpuAtCollection: Int64 = 0

    // Connecting
    private var wanted = 0
    private var connectAllowance = 0.0
    private var lastRefill: Int64
    var inFlight = 0

    var nowMilliseconds: Int64
    private var isStopping = false

    init(_ plan: ShardPlan, commands: CommandQueue<ShardCommand>, progress: CrowdProgress) throws(Errno) {
        self.plan = plan
        self.commands = commands
        self.progress = progress
        poller = try Poller()
        nowMilliseconds = Clock.monotonicMilliseconds()
        lastRefill = nowMilliseconds
        timers = TimerWheel(now: UInt32(truncatingIfNeeded: nowMilliseconds / Self.tickMilliseconds))
        accounts = ShardAccounts(ledger: Ledger(auctions: plan.crowd.auctions.count))
        records.reserveCapacity(plan.capacity)
    }

    deinit {
        buffer.deallocate()
    }

    func run() {
        if let core = plan.crowd.core { Processor.pin(to: core) }
        while !isStopping {
            nowMilliseconds = Clock.monotonicMilliseconds()
            for command in commands.takeAll() { obey(command) }
            connectMore()
            let count = poller.wait(milliseconds: 0) { handle($0) }
            readSlow()
            comeBack()
            if count == 0 { Processor.pause(microseconds: plan.pauseMicroseconds) }
        }
    }

    private func obey(_ command: ShardCommand) {
        switch command {
        case .connect(let count): wanted = min(count, plan.capacity)
        case .collect(let answer):
            let cpu = Processor.threadNanoseconds()
            report.cpuNanoseconds = cpu - cpuAtCollection
            cpuAtCollection = cpu
            answer.give(report)
            report = CrowdReport()
        case .countBehind(let targets, let answer): answer.give(behind(targets))
        case .accounts(let answer): answer.give(closeAccounts())
        case .stop(let answer):
            for slot in records.indices where records[slot].descriptor >= 0 {
                // A reset leaves no port in TIME_WAIT, of which a million would be many.
                Loopback.resetOnClose(records[slot].descriptor)
                endSession(UInt32(slot))
                Sockets.close(records[slot].descriptor)
            }
            isStopping = true
            answer.give(())
        }
    }

    private func behind(_ targets: [UInt64]) -> Behind {
        var behind = Behind()
        for (slot, record) in records.enumerated() where record.pace == .healthy && !record.isOver {
            let target = targets[Int(record.auction)]
            guard record.account.cursor ?? 0 < target else { continue }
            behind.count += 1
            guard behind.example == nil else { continue }
            behind.example =
                "watcher \(plan.firstWatcher + slot) (\(record.transport.rawValue), \(record.phase)) of auction "
                + "\(plan.crowd.auctions[Int(record.auction)]) is at \(record.account.cursor ?? 0) of \(target)"
        }
        return behind
    }

    private func closeAccounts() -> ShardAccounts {
        var result = accounts
        for (slot, record) in records.enumerated() where record.account.isKnown {
            let isReached = record.pace == .healthy && !record.isOver && record.phase != .absent
            result.watches.append(
                ShardAccounts.Watch(
                    watcher: plan.firstWatcher + slot, auction: Int(record.auction),
                    segment: record.account.segment, mustReachEnd: isReached))
        }
        return result
    }

    // MARK: Connecting

    private func connectMore() {
        let elapsed = Double(nowMilliseconds - lastRefill) / 1_000
        lastRefill = nowMilliseconds
        connectAllowance = min(
            connectAllowance + elapsed * Double(plan.connectRate), Double(plan.connectRate) / 10 + 1)
        while records.count < wanted, connectAllowance >= 1, inFlight < Self.connectsInFlight {
            connectAllowance -= 1
            records.append(makeRecord(plan.firstWatcher + records.count))
            connect(UInt32(records.count - 1))
        }
    }

    private func makeRecord(_ watcher: Int) -> WatcherRecord {
        var record = WatcherRecord()
        record.transport = plan.crowd.transports[watcher % plan.crowd.transports.count]
        // Paces alternate with a prime step, so that each auction and transport has its share.
        let place = watcher * 7_919 % 1_000
        if place < plan.crowd.stalledPerMille {
            record.pace = .stalled
        } else if place < plan.crowd.stalledPerMille + plan.crowd.slowPerMille {
            record.pace = .slow
            slow.append(UInt32(records.count))
        }
        record.auction = UInt32(watcher % plan.crowd.auctions.count)
        return record
    }

    func connect(_ slot: UInt32) {
        let index = Int(slot)
        let source = Loopback.address(block: plan.sourceBlock, last: 1 + index / Self.connectionsPerAddress)
        do throws(Errno) {
            let descriptor = try Loopback.connect(
                port: plan.crowd.port, from: source,
                receiveBufferBytes: records[index].pace == .healthy ? nil : Self.slowReadBytes)
            records[index].descriptor = descriptor
            records[index].epoch &+= 1
            records[index].phase = .connecting
            inFlight += 1
            // On the loopback the connection mostly stands already.
            let waits = !sendRequest(slot)
            guard records[index].descriptor >= 0 else { return }
            try poller.add(
                descriptor, waits ? [.readable, .writable, .edgeTriggered] : [.readable, .edgeTriggered],
                token: UInt64(records[index].epoch) << 32 | UInt64(slot))
        } catch {
            if records[index].descriptor >= 0 {
                lose(slot, ending: 0)
            } else {
                retryLater(slot, milliseconds: nil)
            }
        }
    }

    /// Sends the request; false while the connection does not stand.
    private func sendRequest(_ slot: UInt32) -> Bool {
        guard isSecured(slot) else { return false }
        let request = requestHead(slot)
        switch request.withUnsafeBytes({ transmit(slot, $0) }) {
        case .bytes(request.count):
            records[Int(slot)].phase = .awaitingHead
            // A poll that goes on from its cursor is answered when something comes.
            if records[Int(slot)].transport == .longPoll, records[Int(slot)].account.isKnown {
                countPoll(slot)
            }
            return true
        case .wouldBlock: return false
        case .bytes, .closed, .failed:
            lose(slot, ending: 0)
            return false
        }
    }

    // MARK: Bytes

    /// Goes on with the TLS handshake; false while it is not complete.
    private func isSecured(_ slot: UInt32) -> Bool {
        guard let context = plan.crowd.tls else { return true }
        let session: TLSSession
        if let existing = sessions[slot] {
            session = existing
        } else {
            guard
                let new = TLSSession(context, host: "127.0.0.1", descriptor: records[Int(slot)].descriptor)
            else { preconditionFailure("no memory for a TLS session") }
            sessions[slot] = new
            session = new
        }
        switch session.handshake() {
        case .complete: return true
        case .wantsToRead:
            records[Int(slot)].phase = .securing
            return false
        case .wantsToWrite: return false
        case .failed:
            lose(slot, ending: 0)
            return false
        }
    }

    // SAFETY: both use the bytes for the length of the call only.
    func transmit(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        sessions[slot]?.send(bytes) ?? Sockets.send(records[Int(slot)].descriptor, bytes)
    }

    private func receive(_ slot: UInt32, into buffer: UnsafeMutableRawBufferPointer) -> Sockets.Outcome {
        sessions[slot]?.receive(into: buffer) ?? Sockets.receive(records[Int(slot)].descriptor, into: buffer)
    }

    func endSession(_ slot: UInt32) {
        guard plan.crowd.tls != nil else { return }
        sessions.removeValue(forKey: slot)?.free()
    }

    // MARK: Events

    private func handle(_ event: Poller.Event) {
        let slot = UInt32(truncatingIfNeeded: event.token)
        let epoch = UInt32(truncatingIfNeeded: event.token >> 32)
        guard records[Int(slot)].epoch == epoch, records[Int(slot)].descriptor >= 0 else { return }
        switch records[Int(slot)].phase {
        case .connecting where event.isWritable || event.isBroken, .securing:
            guard sendRequest(slot) else { return }
        default: break
        }
        guard event.isReadable || event.isBroken, isReadAtOnce(slot) else { return }
        read(slot, epoch: epoch, hasHungUp: event.hasHungUp || event.isBroken)
    }

    /// Whether a watcher is read as soon as something is there: all are until their first message.
    private func isReadAtOnce(_ slot: UInt32) -> Bool {
        records[Int(slot)].pace == .healthy || !records[Int(slot)].account.isKnown
    }

    /// Reads until nothing is there, which edge-triggered polling asks for.
    private func read(_ slot: UInt32, epoch: UInt32, hasHungUp: Bool) {
        // A TLS record without data, such as a session ticket, brings nothing although more may be there.
        var emptyReceives = plan.crowd.tls == nil || records[Int(slot)].account.isKnown ? 0 : 3
        while records[Int(slot)].epoch == epoch, records[Int(slot)].descriptor >= 0 {
            switch receive(slot, into: buffer) {
            case .bytes(let count):
                take(slot, UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                // Over TLS a receive ends with a record.
                guard plan.crowd.tls == nil else { continue }
                if count < buffer.count, !hasHungUp || !isReadAtOnce(slot) { return }
            case .wouldBlock where emptyReceives > 0: emptyReceives -= 1
            case .wouldBlock: return
            case .closed, .failed: return lose(slot, ending: 0)
            }
        }
    }

    private func readSlow() {
        guard nowMilliseconds >= nextSlowRead else { return }
        nextSlowRead = nowMilliseconds + Self.slowPauseMilliseconds
        for slot in slow where records[Int(slot)].descriptor >= 0 && records[Int(slot)].account.isKnown {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Self.slowReadBytes])
            switch receive(slot, into: part) {
            case .bytes(let count): take(slot, UnsafeRawBufferPointer(rebasing: part[..<count]))
            case .wouldBlock: break
            case .closed, .failed: lose(slot, ending: 0)
            }
        }
    }

    private func comeBack() {
        let tick = UInt32(truncatingIfNeeded: nowMilliseconds / Self.tickMilliseconds)
        while inFlight < Self.connectsInFlight, let slot = timers.popExpired(now: tick) { connect(slot) }
    }
}
