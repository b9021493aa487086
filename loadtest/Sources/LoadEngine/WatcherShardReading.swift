// What a shard's watchers make of received bytes, and how their connections end.

import CLinux
import Compression
import Fanout
import Glibc
import Histogram
import Reactor
import Synchronization

extension WatcherShard {
    func requestHead(_ slot: UInt32) -> [UInt8] {
        let record = records[Int(slot)]
        var target = "/v1/auctions/\(plan.crowd.auctions[Int(record.auction)])/live"
        if let cursor = record.account.cursor { target += "?since=\(cursor)" }
        let fields =
            switch record.transport {
            case .webSocket:
                (plan.crowd.deflates ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "")
                    + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            case .eventStream: "Accept: text/event-stream\r\n"
            case .longPoll: ""
            }
        return Array("GET \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\n\(fields)\r\n".utf8)
    }

    // SAFETY: `bytes` lie in the shard's buffer or in a local array; both outlive the call.
    /// Takes in received bytes, joined with what was kept of before.
    func take(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) {
        report.receivedBytes += bytes.count
        guard records[Int(slot)].hasPartial, var joined = partials.removeValue(forKey: slot) else {
            return keepRest(slot, bytes, from: process(slot, bytes))
        }
        records[Int(slot)].hasPartial = false
        joined.append(contentsOf: bytes)
        joined.withUnsafeBytes { keepRest(slot, $0, from: process(slot, $0)) }
    }

    private func keepRest(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, from position: Int) {
        guard position < bytes.count, records[Int(slot)].descriptor >= 0 else { return }
        partials[slot] = Array(bytes[position...])
        records[Int(slot)].hasPartial = true
    }

    /// Interprets bytes as far as they go; returns how far.
    private func process(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int {
        let epoch = records[Int(slot)].epoch
        var position = 0
        while position < bytes.count, records[Int(slot)].epoch == epoch, records[Int(slot)].descriptor >= 0 {
            let next: Int?
            switch records[Int(slot)].phase {
            case .awaitingHead: next = readHead(slot, bytes, at: position)
            case .open where records[Int(slot)].transport == .webSocket:
                next = readFrame(slot, bytes, at: position)
            case .open: next = readBlock(slot, bytes, at: position)
            case .absent, .connecting, .securing, .waiting: return bytes.count
            }
            guard let next else { break }
            position = next
        }
        return position
    }

    // MARK: Transports

    private func readHead(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, at start: Int) -> Int? {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
        guard let head = ReplyHead(rest) else { return nil }
        let transport = records[Int(slot)].transport
        switch (head.status, transport) {
        case (101, .webSocket), (200, .eventStream):
            inFlight -= 1
            records[Int(slot)].phase = .open
            if plan.crowd.isBare { count(slot) }
            return start + head.count
        case (200, .longPoll):
            guard let length = head.contentLength, rest.count >= head.count + length else { return nil }
            let body = UnsafeRawBufferPointer(rebasing: rest[head.count..<(head.count + length)])
            PollBody.forEachEvent(body) { note(slot, $0) }
            if ScannedMessage.find(#""ended":true"#, in: body) != nil { records[Int(slot)].isOver = true }
            askAgain(slot)
            return start + head.count + length
        default:
            if head.status == 204 || (400..<500).contains(head.status) { records[Int(slot)].isOver = true }
            lose(slot, ending: head.status, retryMilliseconds: head.retryAfterSeconds.map { $0 * 1_000 })
            return nil
        }
    }

    /// A long-poll's next request, over the same connection.
    private func askAgain(_ slot: UInt32) {
        guard !records[Int(slot)].isOver else { return lose(slot, ending: 200) }
        countPoll(slot)
        let request = requestHead(slot)
        let sent = request.withUnsafeBytes { transmit(slot, $0) }
        if sent != .bytes(request.count) { lose(slot, ending: 0) }
    }

    private func readFrame(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, at start: Int) -> Int? {
        guard let frame = ServerFrame(bytes, at: start) else { return nil }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[frame.payload])
        switch frame.opcode {
        case 0x1 where frame.isCompressed: noteCompressed(slot, payload)
        case 0x1: note(slot, payload)
        case 0x8:
            let code = payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 0
            if code == 1_000 || code == 1_008 { records[Int(slot)].isOver = true }
            say(slot, ServerFrame.close(UInt16(code)))
            lose(slot, ending: code, retryMilliseconds: Self.retry(in: payload))
        case 0x9: say(slot, ServerFrame.pong(payload))
        default: break
        }
        return frame.payload.upperBound
    }

    private func noteCompressed(_ slot: UInt32, _ payload: UnsafeRawBufferPointer) {
        switch inflater.expand(payload, maximumBytes: Self.receiveBytes) {
        case .message(let message): message.withUnsafeBytes { note(slot, $0) }
        case .tooLarge, .malformed: blame(slot, .contentDiffers, 0)
        }
    }

    private func readBlock(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, at start: Int) -> Int? {
        guard let block = StreamBlock(bytes, at: start) else { return nil }
        let data = UnsafeRawBufferPointer(rebasing: bytes[block.data])
        if block.isClose {
            let code = ScannedMessage.number(after: #""code":"#, in: data).map { Int($0.value) } ?? 0
            if code == 1_000 || code == 1_008 { records[Int(slot)].isOver = true }
            lose(slot, ending: code, retryMilliseconds: Self.retry(in: data))
        } else if !data.isEmpty {
            note(slot, data)
        }
        return block.end
    }

    private static func retry(in bytes: UnsafeRawBufferPointer) -> Int? {
        ScannedMessage.number(after: #""retry_after_ms":"#, in: bytes).map { Int(clamping: $0.value) }
    }

    private func say(_ slot: UInt32, _ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { transmit(slot, $0) }
    }

    // MARK: Accounts

    /// Enters a message into the watcher's account.
    private func note(_ slot: UInt32, _ json: UnsafeRawBufferPointer) {
        let message = ScannedMessage(json)
        let index = Int(slot)
        let auction = Int(records[index].auction)
        let entry = records[index].account.take(message, isBare: plan.crowd.isBare)
        switch message.kind {
        case .snapshot: report.snapshots += 1
        case .resumed: report.resumes += 1
        case .bid, .lossless:
            let now = Clock.wallMicroseconds()
            report.deliveries += 1
            report.merged += Int(message.sequence - message.first)
            progress.deliveries.add(1, ordering: .relaxed)
            if records[index].pace == .healthy, message.dueMicroseconds > 0 {
                let age = max(0, now - message.dueMicroseconds)
                report.latency.record(UInt64(age))
                let missed = Int64(message.sequence - message.first)
                let interval = Int64(progress.eventInterval.load(ordering: .relaxed))
                report.staleness.record(UInt64(age + missed * interval))
            }
            if !accounts.ledger.note(message, auction: auction, now: now) {
                blame(slot, .contentDiffers, message.sequence)
            }
        case .viewers, .other: break
        }
        switch entry {
        case .applied, .passed: break
        case .jumped(let closed):
            accounts.declaredJumps += 1
            accounts.watches.append(
                ShardAccounts.Watch(
                    watcher: plan.firstWatcher + index, auction: auction, segment: closed, mustReachEnd: false
                ))
        case .fault(let fault): blame(slot, fault, message.sequence)
        }
        if !records[index].isCounted, records[index].transport != .longPoll { count(slot) }
    }

    private func blame(_ slot: UInt32, _ fault: Fault, _ sequence: UInt64) {
        progress.faults.add(1, ordering: .relaxed)
        accounts.faults[fault, default: 0] += 1
        guard accounts.findings.count < 100 else { return }
        accounts.findings.append(
            Finding(
                watcher: plan.firstWatcher + Int(slot), auction: Int(records[Int(slot)].auction),
                fault: fault,
                sequence: sequence))
    }

    /// Counts a long-poll as connected.
    func countPoll(_ slot: UInt32) {
        guard !records[Int(slot)].isCounted else { return }
        inFlight -= 1
        count(slot)
    }

    private func count(_ slot: UInt32) {
        records[Int(slot)].isCounted = true
        report.connects += 1
        progress.connected.add(1, ordering: .relaxed)
    }

    // MARK: Ends

    /// Ends a watcher's connection; it comes back with its cursor unless its watch is over.
    /// - Parameter ending: the close code or HTTP status; 0 for none.
    func lose(_ slot: UInt32, ending: Int, retryMilliseconds: Int? = nil) {
        let index = Int(slot)
        switch records[index].phase {
        case .connecting, .securing: inFlight -= 1
        case .awaitingHead where !(records[index].transport == .longPoll && records[index].isCounted):
            inFlight -= 1
        case .awaitingHead, .open, .absent, .waiting: break
        }
        if records[index].isCounted { progress.connected.subtract(1, ordering: .relaxed) }
        records[index].isCounted = false
        report.endings[ending, default: 0] += 1
        if records[index].hasPartial { partials.removeValue(forKey: slot) }
        records[index].hasPartial = false
        endSession(slot)
        Sockets.close(records[index].descriptor)
        records[index].descriptor = -1
        records[index].epoch &+= 1
        records[index].phase = .absent
        if !records[index].isOver { retryLater(slot, milliseconds: retryMilliseconds) }
    }

    /// - Parameter milliseconds: as the server asked; `nil` for a while of our own choice.
    func retryLater(_ slot: UInt32, milliseconds: Int?) {
        records[Int(slot)].phase = .waiting
        progress.reconnects.add(1, ordering: .relaxed)
        let wait = Int64(milliseconds ?? Int.random(in: 20...500))
        timers.schedule(
            slot, at: UInt32(truncatingIfNeeded: (nowMilliseconds + wait) / Self.tickMilliseconds))
    }
}
