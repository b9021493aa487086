// Turns JSON into the bytes that go on the wire, once each: published events, conflated events, snapshots and
// the gateway's own small messages.

package import AuctionEvents
import Wire

package enum EventEncoder {
    /// The shared form of a published event; `json` stays byte for byte.
    /// - Parameter hasSequence: false on a channel that has no order; a `seq` is then part of the payload
    ///   only.
    package static func event(
        _ json: Span<UInt8>, _ envelope: EventEnvelope, hasSequence: Bool = true, receivedAt: Int64 = 0
    ) -> EncodedEvent {
        var frame: [UInt8] = []
        frame.reserveCapacity(WebSocketFrame.maximumHeaderBytes + json.count)
        WebSocketFrame.appendHeader(.text, payloadCount: json.count, to: &frame)
        let start = frame.count
        // SAFETY: the bytes are copied within the call.
        json.withUnsafeBufferPointer { frame.append(contentsOf: $0) }
        let sequence = hasSequence ? envelope.sequence : 0
        let treatment: EncodedEvent.Treatment =
            switch envelope.kind {
            case .bidUpdate where sequence != 0: .conflatable
            case .viewers: .droppable
            default: .lossless
            }
        return EncodedEvent(
            sequence: sequence, cursor: sequence == 0 ? nil : sequence, treatment: treatment,
            endsAuction: hasSequence && envelope.kind == .auctionEnded,
            type: envelope.type, frame: frame, jsonStart: start, receivedAt: receivedAt,
            publishedAt: envelope.publishedAt?.milliseconds ?? 0,
            isTraced: envelope.trace?.isSampled ?? false)
    }

    /// One of the gateway's own messages.
    /// - Parameter cursor: what a client that has applied it has seen; `nil` when it moves no cursor.
    private static func message(
        _ type: String, sequence: UInt64 = 0, cursor: UInt64? = nil,
        treatment: EncodedEvent.Treatment = .message, endsAuction: Bool = false, capacity: Int = 192,
        _ body: (inout JSONWriter) -> Void
    ) -> EncodedEvent {
        var writer = JSONWriter(capacity: capacity)
        writer.object {
            $0.field("type", type)
            body(&$0)
        }
        var frame: [UInt8] = []
        frame.reserveCapacity(WebSocketFrame.maximumHeaderBytes + writer.bytes.count)
        WebSocketFrame.appendHeader(.text, payloadCount: writer.bytes.count, to: &frame)
        let start = frame.count
        frame.append(contentsOf: writer.bytes)
        return EncodedEvent(
            sequence: sequence, cursor: cursor, treatment: treatment, endsAuction: endsAuction, type: type,
            frame: frame, jsonStart: start)
    }

    // MARK: Wire forms

    /// The JSON of `event` standing for `first`…its own sequence number: `from_seq` is put in front.
    package static func conflatedJSON(_ event: EncodedEvent, from first: UInt64) -> [UInt8] {
        var json = Array(#"{"from_seq":\#(first),"#.utf8)
        // The JSON was checked to be an object with at least its type; white space may precede the brace.
        let brace = event.json.firstIndex(of: UInt8(ascii: "{")) ?? event.jsonStart
        json.append(contentsOf: event.frame[(brace + 1)...])
        return json
    }

    /// The WebSocket frame of `event` standing for `first`…its own sequence number.
    package static func frame(_ event: EncodedEvent, from first: UInt64) -> [UInt8] {
        guard event.isConflatable, first != event.sequence else { return event.frame }
        return WebSocketFrame.encode(.text, conflatedJSON(event, from: first))
    }

    /// The frame for clients that take compressed messages: compressed where that makes it smaller.
    package static func deflatedFrame(
        _ event: EncodedEvent, from first: UInt64, compress: (ArraySlice<UInt8>) -> [UInt8]
    ) -> [UInt8] {
        guard event.isConflatable, first != event.sequence else {
            return event.deflated { deflatedFrame($0.json, compress) ?? $0.frame }
        }
        let json = conflatedJSON(event, from: first)
        return deflatedFrame(json[...], compress) ?? WebSocketFrame.encode(.text, json)
    }

    /// `nil` when the compressed form is not smaller, or when compressing is not worth its time.
    private static func deflatedFrame(
        _ json: ArraySlice<UInt8>, _ compress: (ArraySlice<UInt8>) -> [UInt8]
    ) -> [UInt8]? {
        guard json.count >= LiveLimits.leastDeflatedBytes else { return nil }
        let compressed = compress(json)
        guard compressed.count < json.count else { return nil }
        return WebSocketFrame.encode(.text, compressed, isCompressed: true)
    }

    /// The server-sent event of `event` standing for `first`…its own sequence number.
    package static func stream(_ event: EncodedEvent, from first: UInt64) -> [UInt8] {
        guard event.isConflatable, first != event.sequence else {
            return event.stream {
                ServerSentEvent.encode(type: $0.type, json: $0.json, id: $0.cursor.map(String.init))
            }
        }
        return stream(event, from: first, id: event.cursor.map(String.init))
    }

    /// The same with an `id` that is not the event's own cursor.
    package static func stream(_ event: EncodedEvent, from first: UInt64, id: String?) -> [UInt8] {
        guard event.isConflatable, first != event.sequence else {
            return ServerSentEvent.encode(type: event.type, json: event.json, id: id)
        }
        return ServerSentEvent.encode(type: event.type, json: conflatedJSON(event, from: first), id: id)
    }

    // MARK: The gateway's own messages

    package static func snapshot(
        _ snapshot: Snapshot, auctionID: String, complete: Bool, serverTime: Timestamp
    ) -> EncodedEvent {
        message("SNAPSHOT", cursor: snapshot.sequence, capacity: 256 + (snapshot.state?.count ?? 4)) {
            writeSnapshot(snapshot, auctionID, complete, serverTime, to: &$0)
        }
    }

    /// The snapshot that all watchers of a channel get in the place of skipped events, in their order of
    /// events.
    package static func jump(to snapshot: Snapshot, auctionID: String, serverTime: Timestamp) -> EncodedEvent
    {
        message(
            "SNAPSHOT", sequence: snapshot.sequence, cursor: snapshot.sequence, endsAuction: snapshot.isEnded,
            capacity: 256 + (snapshot.state?.count ?? 4)
        ) { writeSnapshot(snapshot, auctionID, false, serverTime, to: &$0) }
    }

    private static func writeSnapshot(
        _ snapshot: Snapshot, _ auctionID: String, _ complete: Bool, _ serverTime: Timestamp,
        to writer: inout JSONWriter
    ) {
        writer.field("auction_id", auctionID)
        writer.field("seq", snapshot.sequence)
        writer.field("complete", complete)
        writer.field("server_time", serverTime)
        writer.key("state")
        if let state = snapshot.state { writer.raw(state) } else { writer.null() }
    }

    /// The first message of a watcher whose cursor could be followed.
    package static func resumed(
        since: UInt64, sequence: UInt64, auctionID: String, serverTime: Timestamp
    ) -> EncodedEvent {
        message("RESUMED", cursor: since) {
            $0.field("auction_id", auctionID)
            $0.field("since", since)
            $0.field("seq", sequence)
            $0.field("replayed", sequence - since)
            $0.field("complete", true)
            $0.field("server_time", serverTime)
        }
    }

    /// The answer to `{"type":"PING","t":X}`; `echo` is X as it was sent.
    package static func pong(echo: ArraySlice<UInt8>?, serverTime: Timestamp) -> EncodedEvent {
        message("PONG") {
            $0.key("t")
            if let echo { $0.raw(echo) } else { $0.null() }
            $0.field("server_time", serverTime)
        }
    }

    package static func error(_ code: String, _ text: String, auctionID: String? = nil) -> EncodedEvent {
        message("ERROR") {
            if let auctionID { $0.field("auction_id", auctionID) }
            $0.field("error", code)
            $0.field("message", text)
        }
    }

    /// - Parameter retryMilliseconds: when the client may subscribe again; `nil` when it asked to
    ///   unsubscribe.
    package static func unsubscribed(_ auctionID: String, retryMilliseconds: Int? = nil) -> EncodedEvent {
        message("UNSUBSCRIBED") {
            $0.field("auction_id", auctionID)
            if let retryMilliseconds { $0.field("retry_after_ms", retryMilliseconds) }
        }
    }

    /// An auction's number of viewers, over all gateways.
    package static func viewers(_ count: Int, auctionID: String, serverTime: Timestamp) -> EncodedEvent {
        message("VIEWERS", treatment: .droppable) {
            $0.field("auction_id", auctionID)
            $0.field("count", count)
            $0.field("server_time", serverTime)
        }
    }

    /// Whether an auction's Redis delivers.
    package static func feed(_ isLive: Bool, auctionID: String, serverTime: Timestamp) -> EncodedEvent {
        message("FEED", treatment: .replaceable) {
            $0.field("auction_id", auctionID)
            $0.field("live", isLive)
            $0.field("server_time", serverTime)
        }
    }

    /// What an event stream says before it ends.
    package static func close(code: UInt16, message text: String, retryMilliseconds: Int?) -> [UInt8] {
        var writer = JSONWriter(capacity: 96)
        writer.object {
            $0.field("code", Int(code))
            $0.field("message", text)
            if let retryMilliseconds { $0.field("retry_after_ms", retryMilliseconds) }
        }
        let event = ServerSentEvent.encode(type: "CLOSE", json: writer.bytes, id: nil)
        return (retryMilliseconds.map(ServerSentEvent.retry) ?? []) + event
    }

    /// The answer to a long-poll, or one auction's part of it.
    /// - Parameters:
    ///   - sequence: the client's next cursor.
    ///   - live: whether the auction's Redis delivers.
    package static func poll(
        auctionID: String, sequence: UInt64, complete: Bool, live: Bool, ended: Bool, events: [[UInt8]]
    ) -> [UInt8] {
        var writer = JSONWriter(capacity: 96 + events.reduce(0) { $0 + $1.count + 1 })
        writer.object {
            $0.field("auction_id", auctionID)
            $0.field("seq", sequence)
            $0.field("complete", complete)
            $0.field("live", live)
            if ended { $0.field("ended", true) }
            $0.key("events")
            $0.array { for event in events { $0.raw(event) } }
        }
        return writer.bytes
    }

    /// The answer to a long-poll over many auctions, made of the parts of those that have something.
    package static func polls(_ parts: [[UInt8]]) -> [UInt8] {
        var writer = JSONWriter(capacity: 16 + parts.reduce(0) { $0 + $1.count + 1 })
        writer.object {
            $0.key("auctions")
            $0.array { for part in parts { $0.raw(part) } }
        }
        return writer.bytes
    }

    package static func time(_ serverTime: Timestamp) -> [UInt8] {
        var writer = JSONWriter(capacity: 48)
        writer.object { $0.field("server_time", serverTime) }
        return writer.bytes
    }

    // MARK: States

    /// Splits the state object, as Redis keeps it, into its sequence number and the rest; `nil` when it is
    /// not what the contract says.
    package static func snapshot(fromStored stored: [UInt8]) -> Snapshot? {
        guard stored.count <= LiveLimits.stateBytes, EventEnvelope.isUTF8(stored.span) else { return nil }
        var sequence: UInt64?
        var member = 0..<0
        var isEnded = false
        var scanner = JSONScanner()
        do throws(JSONScanner.Failure) {
            while let next = try scanner.next(in: stored.span) {
                if stored.span.isKey("status", of: next), next.kind == .string {
                    let endings: [StaticString] = ["sold", "unsold", "cancelled"]
                    isEnded = endings.contains {
                        stored.span.matches($0, in: next.value, isEscaped: next.isValueEscaped)
                    }
                }
                guard stored.span.isKey("seq", of: next) else { continue }
                guard next.kind == .number, let number = stored.span.decimal(in: next.value),
                    number <= UInt64.maximumSequence
                else { return nil }
                sequence = number
                member = next.start..<next.end
            }
        } catch {
            return nil
        }
        guard let sequence else { return nil }
        return Snapshot(sequence: sequence, state: without(member, in: stored), isEnded: isEnded)
    }

    /// Cuts a member out of an object, with one of the commas beside it.
    private static func without(_ member: Range<Int>, in object: [UInt8]) -> [UInt8] {
        let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
        var cut = member
        if let next = object[member.upperBound...].firstIndex(where: { !isSpace($0) }),
            object[next] == UInt8(ascii: ",")
        {
            cut = cut.lowerBound..<next + 1
        } else if let previous = object[..<member.lowerBound].lastIndex(where: { !isSpace($0) }),
            object[previous] == UInt8(ascii: ",")
        {
            cut = previous..<cut.upperBound
        }
        return Array(object[..<cut.lowerBound] + object[cut.upperBound...])
    }
}
