// Sends bytes straight to the socket while that takes everything, and through the connection's backlog
// otherwise. Output owns the backlogs and the wire forms that depend on a connection. Callers give each event
// with the watcher that it is for, and the bytes go over the watcher's connection. Output reports what became
// of a send. Its callers decide whether a connection ends.

import Compression
import Fanout
import LiveProtocol
import Reactor
import Telemetry
import TransportSecurity
import Wire

/// What became of a send.
enum SendOutcome {
    /// The socket took everything, or there was nothing to send.
    case sent
    /// The rest waits in the backlog, or was merged or left out there.
    case queued
    /// More waits than the bounds allow.
    case tooSlow
    /// The connection is broken, or its end has begun. The poller reports a broken one.
    case broken
}

extension Connections {
    /// Every room that sends an event or bytes calls this. A client for which too much waits is told that it
    /// is too slow.
    func settle(_ outcome: SendOutcome, of slot: UInt32) {
        guard outcome == .tooSlow else { return }
        let connection = connection(of: slot)
        guard !self[connection].flags.contains(.isEnding) else { return }
        context.counters.slowCloses.add()
        end(connection, .dismissal(.tooSlow()))
    }
}

/// What became of a backlog when its socket became writable.
enum FlushOutcome {
    /// There was no backlog.
    case idle
    /// Some of it still waits.
    case waiting
    /// Everything is out.
    case drained
    case broken
}

final class Output {
    let context: LoopContext
    let connections: Connections
    private let encoder: ConnectionEncoder
    private var backlogs = BacklogTable()

    init(context: LoopContext, connections: Connections) {
        self.context = context
        self.connections = connections
        encoder = ConnectionEncoder(connections: connections)
    }

    /// Forgets a connection that is being freed.
    func forget(_ connection: UInt32) {
        encoder.forget(connection)
        guard connections[connection].flags.contains(.hasBacklog) else { return }
        _ = backlogs.remove(connection)
        noteBacklogGone()
    }

    /// False once a connection's end has begun: nothing may follow its last words.
    private func takesEvents(_ connection: UInt32) -> Bool {
        guard !connections[connection].flags.contains(.isEnding) else { return false }
        switch connections[connection].phase {
        case .joining, .watching, .multiplexing, .echoing: return true
        case .free, .introducing, .securing, .readingHead, .readingBody, .opening, .closing, .lingering:
            return false
        }
    }

    // MARK: Wire forms

    /// An event's wire form on a connection, standing for the events from `first` on.
    /// - Parameter watch: the connection, or the subscription of it, that the event is for.
    func encode(_ event: EncodedEvent, from first: UInt64, watch: UInt32, over connection: UInt32) -> [UInt8]
    {
        encoder.encode(event, from: first, watch: watch, over: connection)
    }

    /// The form that all watchers of a delivery group get.
    func encode(_ event: EncodedEvent, from first: UInt64, for group: DeliveryGroup) -> [UInt8] {
        encoder.encode(event, from: first, for: group)
    }

    /// Adds one of the auctions of an event stream, in the order of the request.
    func addPosition(_ auctionID: String, subscription: UInt32, since: UInt64?, to connection: UInt32) {
        encoder.addPosition(auctionID, subscription: subscription, since: since, to: connection)
    }

    /// The subscriptions of an event stream with many auctions, in the order of the request.
    func positions(of connection: UInt32) -> [UInt32] {
        encoder.positions(of: connection)
    }

    /// The compressor of messages that clients share.
    var deflater: MessageDeflater { encoder.deflater }

    // MARK: Events

    /// Sends an event or message to a watcher, in order.
    /// - Parameter first: the first event that it stands for, if it was merged.
    func send(_ event: EncodedEvent, from first: UInt64? = nil, to slot: UInt32) -> SendOutcome {
        let first = first ?? event.sequence
        let connection = connections.connection(of: slot)
        guard takesEvents(connection) else { return .broken }
        guard !connections[connection].flags.contains(.hasBacklog) else {
            return queue(event, from: first, to: slot)
        }
        return sendNow(connection, encoder.encode(event, from: first, watch: slot, over: connection))
    }

    /// Queues an event, which stands for those from `first` on, for a watcher whose socket is full.
    func queue(_ event: EncodedEvent, from first: UInt64, to slot: UInt32) -> SendOutcome {
        let connection = connections.connection(of: slot)
        guard takesEvents(connection) else { return .broken }
        guard event.treatment != .droppable else { return .queued }
        if !connections[connection].flags.contains(.hasBacklog) { addBacklog(Backlog(), to: connection) }
        let bounds = bounds(connection)
        let queued = backlogs.change(connection) { backlog in
            let before = backlog.count
            let fits = backlog.enqueue(event, first: first, watch: slot, bounds: bounds)
            return (fits: fits, merged: event.isConflatable && backlog.count == before)
        }
        guard let queued else { return .broken }
        if queued.merged { context.counters.conflated.add(.socket) }
        noteCongestion(connection)
        return queued.fits ? .queued : .tooSlow
    }

    /// Queues a long replay, in which bids merge. The log's length bounds it, and not the bounds of a
    /// watcher. A watcher that does not take it is closed as slow later.
    /// - Parameter head: bytes to go before it.
    func queueReplay(_ events: [EncodedEvent], behind head: [UInt8], to slot: UInt32) {
        let connection = connections.connection(of: slot)
        var backlog = Backlog(frame: head, hasManyWatches: connections[connection].phase == .multiplexing)
        for event in events {
            _ = backlog.enqueue(event, first: event.sequence, watch: slot, bounds: Limits.replayBounds)
        }
        backlogs.set(connection, backlog)
        noteBacklog(connection)
        noteCongestion(connection)
    }

    // MARK: Bytes

    /// Sends complete bytes, in order.
    func send(_ bytes: [UInt8], over connection: UInt32) -> SendOutcome {
        guard !bytes.isEmpty else { return .sent }
        guard connections[connection].flags.contains(.hasBacklog) else { return sendNow(connection, bytes) }
        let bounds = bounds(connection)
        let fits = backlogs.change(connection) { $0.enqueue(bytes: bytes, bounds: bounds) } ?? false
        noteCongestion(connection)
        return fits ? .queued : .tooSlow
    }

    /// Sends a control frame, or a stream's comment, before anything that waits.
    /// - Returns: ``SendOutcome/broken`` also for a peer that sends pings and reads nothing. Such a peer gets
    ///   no further word.
    func sendControl(_ frame: [UInt8], over connection: UInt32) -> SendOutcome {
        guard connections[connection].flags.contains(.hasBacklog) else {
            return sendNow(connection, frame)
        }
        let bounds = bounds(connection)
        let fits = backlogs.change(connection) { $0.enqueue(control: frame, bounds: bounds) } ?? false
        return fits ? .queued : .broken
    }

    private func sendNow(_ connection: UInt32, _ bytes: [UInt8]) -> SendOutcome {
        switch bytes.withUnsafeBytes({ transmit(connection, $0) }) {
        case .bytes(let count):
            countDelivered(count, over: connection)
            guard count < bytes.count else { return .sent }
            keepRest(of: bytes, sent: count, for: connection)
            return .queued
        case .wouldBlock:
            keepRest(of: bytes, sent: 0, for: connection)
            return .queued
        case .closed, .failed: return .broken
        }
    }

    // SAFETY: the bytes are used for the length of the call only.
    /// Gives as much as possible to the socket or the TLS session. What would block must be offered again
    /// before anything else.
    private func transmit(_ connection: UInt32, _ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        guard connections[connection].flags.contains(.isSecure) else {
            return Sockets.send(connections[connection].descriptor, bytes)
        }
        return connections.session(of: connection)?.send(bytes) ?? .closed
    }

    /// Keeps the bids of several auctions apart in what waits already: the connection carries many from now
    /// on.
    func separateWatches(of connection: UInt32) {
        guard connections[connection].flags.contains(.hasBacklog) else { return }
        backlogs.change(connection) { $0.separateWatches() }
    }

    // MARK: HTTP

    /// Answers a request. The answer is queued whole, whatever its size.
    /// - Returns: true when the answer says that the connection is kept: the caller wants it, and the client
    ///   has read its earlier answers.
    func respond(
        _ response: HTTPResponse, over connection: UInt32, keepsAlive: Bool, withBody: Bool = true
    ) -> Bool {
        let isKept = keepsAlive && !connections[connection].flags.contains(.hasBacklog)
        _ = send(
            response.encoded(keepAlive: isKept, withBody: withBody, date: context.httpDate()),
            over: connection)
        return isKept
    }

    // MARK: Backlogs

    private func bounds(_ connection: UInt32) -> Backlog.Bounds {
        switch connections[connection].phase {
        case .echoing: Limits.echoBounds
        case .multiplexing: Limits.multiplexedBounds
        default: Limits.watcherBounds
        }
    }

    /// Keeps the rest of a frame of which the socket took `sent` bytes.
    func keepRest(of frame: [UInt8], sent: Int, for connection: UInt32) {
        let hasManyWatches = connections[connection].phase == .multiplexing
        addBacklog(Backlog(frame: frame, sent: sent, hasManyWatches: hasManyWatches), to: connection)
    }

    private func addBacklog(_ backlog: Backlog, to connection: UInt32) {
        backlogs.set(connection, backlog)
        noteBacklog(connection)
    }

    private func noteBacklog(_ connection: UInt32) {
        connections.mark(connection, .hasBacklog)
        connections.noteProgress(connection)
        noteBacklogs()
        connections.updateInterest(connection)
        switch connections[connection].phase {
        case .watching, .multiplexing:
            connections.schedule(connection, seconds: context.configuration.slowDeadlineSeconds)
        case .free, .introducing, .securing, .readingHead, .readingBody, .opening, .joining, .echoing,
            .closing,
            .lingering:
            break
        }
    }

    /// Writes what waits, as far as the socket takes it.
    func flush(_ connection: UInt32) -> FlushOutcome {
        guard connections[connection].flags.contains(.hasBacklog),
            var backlog = backlogs.remove(connection)
        else { return .idle }
        var isBroken = false
        let written = backlog.flush(
            encode: { event, first, watch in
                encoder.encode(event, from: first, watch: watch, over: connection)
            },
            send: { bytes in
                switch transmit(connection, bytes) {
                case .bytes(let count): return count
                case .wouldBlock: return 0
                case .closed, .failed:
                    isBroken = true
                    return 0
                }
            })
        if written > 0 { connections.noteProgress(connection) }
        countDelivered(written, over: connection)
        guard backlog.isEmpty else {
            backlogs.set(connection, backlog)
            noteCongestion(connection)
            guard !isBroken else { return .broken }
            connections.resumeReading(connection)
            return .waiting
        }
        connections.unmark(connection, [.hasBacklog, .isCongested])
        noteBacklogGone()
        connections.resumeReading(connection)
        connections.updateInterest(connection)
        return .drained
    }

    /// The connections whose sockets are full.
    var fullConnections: [UInt32] { backlogs.connections }

    func waitingBytes(of connection: UInt32) -> Int { backlogs[connection]?.waitingBytes ?? 0 }

    /// Takes what waits for a connection that moves, in the form in which it would have been sent.
    func takeWaiting(_ connection: UInt32) -> [UInt8] {
        guard connections[connection].flags.contains(.hasBacklog),
            var backlog = backlogs.remove(connection)
        else { return [] }
        var bytes: [UInt8] = []
        _ = backlog.flush(
            encode: { event, first, watch in
                encoder.encode(event, from: first, watch: watch, over: connection)
            },
            send: { part in
                bytes += part
                return part.count
            })
        connections.unmark(connection, [.hasBacklog, .isCongested])
        noteBacklogGone()
        return bytes
    }

    /// Drops the queue, but not the frame that is partly out. The next control frame is then the connection's
    /// last word.
    func dropQueued(_ connection: UInt32) {
        guard connections[connection].flags.contains(.hasBacklog) else { return }
        backlogs.change(connection) { $0.dropQueued() }
        noteCongestion(connection)
    }

    /// Keeps later events from merging with those of an ended subscription, because another subscription may
    /// get its slot.
    func forget(subscription: UInt32, of connection: UInt32) {
        guard connections[connection].flags.contains(.hasBacklog) else { return }
        backlogs.change(connection) { $0.forget(watch: subscription) }
    }

    /// Updates the count of backlogs. A table that was large returns its memory when it is empty.
    private func noteBacklogGone() {
        noteBacklogs()
        backlogs.shrinkIfEmpty()
    }

    /// Brings the gauges up to date.
    private func noteBacklogs() {
        context.counters.backlogs.set(backlogs.count)
        context.counters.backlogBytes.set(backlogs.bytes)
    }

    private func countDelivered(_ bytes: Int, over connection: UInt32) {
        context.counters.deliveredBytes.add(ByteCarrier(connections[connection].transport), bytes)
    }

    /// Updates the flag that is set while a client with many auctions must read before it may ask for more.
    private func noteCongestion(_ connection: UInt32) {
        context.counters.backlogBytes.set(backlogs.bytes)
        guard connections[connection].phase == .multiplexing else { return }
        let waiting = backlogs[connection].map { $0.messageBytes + $0.losslessBytes } ?? 0
        if waiting > Limits.multiplexedPauseBytes {
            connections.mark(connection, .isCongested)
        } else {
            connections.unmark(connection, .isCongested)
        }
    }
}
