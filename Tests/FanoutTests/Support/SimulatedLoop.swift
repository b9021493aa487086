import Fanout
import LiveProtocol
import TestSupport

/// One event loop of the simulation, with its watchers.
final class SimulatedLoop {
    enum Message {
        case attached(Attachment)
        case event(EncodedEvent)
        case jump(Snapshot)
    }

    /// A client: what it has applied, and the bytes of a frame it has in part.
    struct Client {
        var applied: UInt64?
        /// What was published when it came.
        let joinedAt: UInt64
        var received: [UInt8] = []
        /// How many bytes its socket takes now.
        var room = 0
        var backlog: Backlog?
        /// The tick at which it was last heard of.
        var deadline: UInt32 = 0
    }

    private static let capacity = 48
    private static let frameBytes = 16
    private static let bounds = Backlog.Bounds(lossless: .max, messages: .max, control: .max)

    let index: Int
    private unowned let simulation: Simulation
    var mailbox: [Message] = []
    private var channel: Channel?
    private var slab = ConnectionSlab(capacity: SimulatedLoop.capacity)
    private var wheel = TimerWheel(now: 0)
    private var ticks: UInt32 = 0
    private var clients: [UInt32: Client] = [:]
    /// The clients' slots, in an order that depends on the seed alone.
    private var slots: [UInt32] = []
    private var isGreeting = false

    init(index: Int, simulation: Simulation) {
        self.index = index
        self.simulation = simulation
    }

    private func fault(_ text: String) {
        simulation.faults.append("loop \(index): \(text)")
    }

    // MARK: Coming and going

    func connect() {
        guard let slot = slab.insert(descriptor: 0) else { return }
        var since: UInt64?
        if !simulation.chance(3) {
            let back = UInt64.random(in: 0...130, using: &simulation.generator)
            since = simulation.published - min(simulation.published, back)
            if simulation.chance(20) { since = simulation.published + 5 }
        }
        let channel = channel ?? Channel(topic: .auction("a"), index: 0)
        self.channel = channel
        slab.transition(slot, to: .opening)
        slab.transition(slot, to: .joining)
        slab[slot].transport = simulation.chance(3) ? .eventStream : .webSocket
        slab[slot].listPosition = channel.waiting.append(slot)
        slab[slot].cursor = since ?? 0
        slab[slot].flags = since == nil ? [] : .hasCursor
        slots.append(slot)
        clients[slot] = Client(applied: since, joinedAt: simulation.published)
        clients[slot]?.room = Int.random(in: 0...400, using: &simulation.generator)
        heard(slot)
        if let attachment = channel.ownAttachment(since: since) {
            serve(slot, attachment, on: channel)
        } else {
            request(since == nil ? .state : [], on: channel)
        }
    }

    private func request(_ needs: AttachmentNeeds, on channel: Channel) {
        if channel.request(needs) { simulation.requests.append(.attach(loop: index, needs)) }
    }

    func disconnect() {
        if let slot = anyClient() { remove(slot) }
    }

    private func anyClient() -> UInt32? {
        slots.randomElement(using: &simulation.generator)
    }

    private func remove(_ slot: UInt32) {
        guard let channel else { return }
        if channel.walkCount > 0 { simulation.take(.closedWhileWalking) }
        let group = DeliveryGroup(slab[slot]).rawValue
        let position = slab[slot].listPosition
        let moved =
            slab[slot].phase == .joining
            ? channel.waiting.remove(at: position) : channel.watchers[group].remove(at: position)
        if let moved { slab[moved].listPosition = position }
        let generation = slab[slot].generation
        wheel.cancel(slot)
        slab.remove(slot)
        clients[slot] = nil
        if let index = slots.firstIndex(of: slot) { slots.swapAt(index, slots.count - 1) }
        slots.removeLast()
        if slab.isCurrent(slot, generation: generation) { fault("\(slot) is there after it left") }
        guard channel.isEmpty else { return }
        channel.dropPending()
        self.channel = nil
        isGreeting = false
        simulation.requests.append(.detach(loop: index))
    }

    // MARK: From the feed

    func readMailbox(_ count: Int) {
        for message in mailbox.prefix(count) {
            guard let channel else { continue }
            switch message {
            case .attached(let attachment):
                let (missed, jumps) = channel.adopt(attachment)
                if jumps { jump(attachment.snapshot, on: channel) }
                for event in missed { enqueue(event, on: channel) }
                channel.advance(to: attachment)
                guard channel.waiting.count > 0 else { continue }
                channel.beginGreeting(attachment, moved: note)
                isGreeting = true
            case .event(let event): if channel.snapshot != nil { enqueue(event, on: channel) }
            case .jump(let snapshot): if channel.snapshot != nil { jump(snapshot, on: channel) }
            }
        }
        mailbox.removeFirst(min(count, mailbox.count))
    }

    private func jump(_ snapshot: Snapshot, on channel: Channel) {
        channel.snapshot = snapshot
        guard snapshot.sequence > channel.last else { return }
        let event = EncodedEvent(
            sequence: snapshot.sequence, cursor: snapshot.sequence, treatment: .message, type: "S",
            frame: simulation.frame(.max, snapshot.sequence), jsonStart: 0)
        enqueue(event, on: channel)
    }

    private func enqueue(_ event: EncodedEvent, on channel: Channel) {
        if case .merged = channel.take(event, now: simulation.now) { simulation.take(.conflated) }
    }

    private func note(_ slot: UInt32, _ position: UInt32) {
        slab[slot].listPosition = position
    }

    // MARK: First messages

    func greet(_ budget: Int) {
        guard isGreeting, let channel else { return }
        guard let stretch = channel.nextGreeting(budget: budget) else {
            channel.leaveGreeting(moved: note)
            if channel.waiting.count > 0 { request(.state, on: channel) }
            isGreeting = false
            return
        }
        for slot in stretch.slots where slot != SubscriberList.tombstone && slab[slot].phase == .joining {
            serve(slot, stretch.attachment, on: channel)
        }
        isGreeting = channel.continuesGreeting(moved: note)
    }

    private func serve(_ slot: UInt32, _ attachment: Attachment, on channel: Channel) {
        let cursor = slab[slot].flags.contains(.hasCursor) ? slab[slot].cursor : nil
        switch attachment.welcome(cursor: cursor) {
        case .later(let needs): return request(needs, on: channel)
        case .snapshot(let complete, let position, let events):
            simulation.take(complete ? .snapshot : .incomplete)
            if complete != (cursor == nil) { fault("complete is \(complete) for \(cursor as Any)") }
            if let cursor, cursor <= max(attachment.last, position) { checkGivenUp(cursor, slot) }
            begin(slot, at: max(attachment.last, position), on: channel)
            clients[slot]?.applied = position
            for event in events { send(event, event.sequence, to: slot) }
        case .resumed(let since, _, let events):
            if since > attachment.last {
                simulation.take(.aheadOfEvents)
            } else {
                simulation.take(attachment.isThorough ? .resumedFromLog : .resumedFromRing)
            }
            begin(slot, at: max(attachment.last, since), on: channel)
            for event in events { send(event, event.sequence, to: slot) }
        }
    }

    /// A client's cursor was not followed, and was not ahead of everything. That is right only where the log
    /// no longer reached it, or Redis had lost the state.
    private func checkGivenUp(_ cursor: UInt64, _ slot: UInt32) {
        let published = simulation.published
        guard let joinedAt = clients[slot]?.joinedAt, simulation.stateLostAt < joinedAt else { return }
        if cursor + Simulation.logLength >= published { fault("gave up on \(cursor) of \(published)") }
    }

    private func begin(_ slot: UInt32, at cursor: UInt64, on channel: Channel) {
        let position = slab[slot].listPosition
        if let moved = channel.waiting.remove(at: position) { slab[moved].listPosition = position }
        slab.transition(slot, to: .watching)
        slab[slot].listPosition = channel.watchers[DeliveryGroup(slab[slot]).rawValue].append(slot)
        slab[slot].cursor = cursor
    }

    // MARK: Walks and backlogs

    func walk(_ budget: Int, window: Int64) {
        guard let channel else { return }
        if channel.walkCount == 0 {
            guard !channel.pending.isEmpty, !channel.awaitsWindow(now: simulation.now) else { return }
            let merged = channel.beginWalk(bytes: 64, now: simulation.now, window: window)
            for _ in 0..<merged { simulation.take(.conflated) }
        }
        guard let stretch = channel.nextStretch(budget: budget) else {
            return channel.endWalk(now: simulation.now)
        }
        for slot in channel.watchers[stretch.group.rawValue].slots[stretch.places]
        where slot != SubscriberList.tombstone {
            for pending in channel.walked where slab[slot].cursor < pending.event.sequence {
                if slab[slot].cursor >= pending.first { simulation.take(.overtaken) }
                let first = max(pending.first, slab[slot].cursor + 1)
                slab[slot].cursor = pending.event.sequence
                send(pending.event, first, to: slot)
            }
        }
        channel.endStretch(stretch, moved: note)
    }

    private func send(_ event: EncodedEvent, _ first: UInt64, to slot: UInt32) {
        guard var client = clients[slot] else { return }
        let frame = frame(of: event, from: first)
        if client.backlog != nil {
            simulation.take(.backlogged)
            let before = client.backlog?.count
            _ = client.backlog?.enqueue(event, first: first, bounds: Self.bounds)
            if client.backlog?.count == before { simulation.take(.conflated) }
        } else {
            let sent = min(client.room, frame.count)
            if client.room != .max { client.room -= sent }
            if sent < frame.count {
                client.backlog = Backlog(frame: frame, sent: sent)
            } else {
                simulation.take(.walkedWhole)
            }
            receive(frame[..<sent], &client)
        }
        clients[slot] = client
    }

    private func frame(of event: EncodedEvent, from first: UInt64) -> [UInt8] {
        simulation.frame(event.isJump ? .max : first, event.sequence)
    }

    /// A client's socket has room again.
    func readSome() {
        guard let slot = anyClient(), var client = clients[slot] else { return }
        client.room = Int.random(in: 0...300, using: &simulation.generator)
        flush(&client)
        clients[slot] = client
        heard(slot)
    }

    private func flush(_ client: inout Client) {
        guard var backlog = client.backlog else { return }
        var output: [UInt8] = []
        var room = client.room
        _ = backlog.flush(
            encode: { event, first, _ in frame(of: event, from: first) },
            send: { bytes in
                let count = min(room, bytes.count)
                if room != .max { room -= count }
                output += bytes[..<count]
                return count
            })
        client.room = room
        client.backlog = backlog.isEmpty ? nil : backlog
        receive(output[...], &client)
    }

    // MARK: The client

    private func receive(_ bytes: ArraySlice<UInt8>, _ client: inout Client) {
        client.received += bytes
        while client.received.count >= Self.frameBytes {
            let numbers = client.received[..<Self.frameBytes].reduce(into: [UInt64](repeating: 0, count: 2)) {
                $0 = [$0[0] << 8 | $0[1] >> 56, $0[1] << 8 | UInt64($1)]
            }
            client.received.removeFirst(Self.frameBytes)
            apply(numbers[0], numbers[1], &client)
        }
    }

    private func apply(_ first: UInt64, _ last: UInt64, _ client: inout Client) {
        let applied = client.applied ?? 0
        if first == .max {
            if last < applied { fault("a jump back from \(applied) to \(last)") }
        } else {
            if first != applied + 1 { fault("\(first)…\(last) after \(applied)") }
            for sequence in first..<max(first, last) where simulation.isLossless[Int(sequence)] {
                fault("lossless \(sequence) was merged into \(first)…\(last)")
            }
        }
        client.applied = last
    }

    // MARK: Timers

    private func heard(_ slot: UInt32) {
        let deadline = ticks + UInt32.random(in: 1...40, using: &simulation.generator)
        wheel.schedule(slot, at: deadline)
        clients[slot]?.deadline = deadline
    }

    func tick() {
        ticks += UInt32.random(in: 0...3, using: &simulation.generator)
        while let slot = wheel.popExpired(now: ticks) {
            simulation.take(.timerFired)
            guard let client = clients[slot], client.deadline <= ticks else {
                fault("a timer fired for \(slot), which had none due")
                continue
            }
            remove(slot)
        }
        if let late = clients.first(where: { $0.value.deadline <= ticks }) {
            fault("the timer of \(late.key) is overdue")
        }
    }

    // MARK: The end

    func settle() {
        readMailbox(.max)
        while isGreeting { greet(.max) }
        while let channel, !channel.pending.isEmpty, !channel.awaitsWindow(now: simulation.now) {
            walk(.max, window: 0)
        }
        for slot in slots {
            guard var client = clients[slot] else { continue }
            client.room = .max
            flush(&client)
            clients[slot] = client
        }
    }

    /// Everybody must have everything.
    func check() {
        for (slot, client) in clients {
            guard slab[slot].phase == .watching else {
                fault("\(slot) waits for ever")
                continue
            }
            // A cursor beyond everything that was published is followed by nothing.
            guard client.applied != simulation.published else { continue }
            fault("\(slot) ended at \(client.applied ?? 0) of \(simulation.published)")
        }
        if slab.count != clients.count { fault("the counts differ") }
    }
}
