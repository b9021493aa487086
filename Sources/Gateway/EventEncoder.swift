// Turns JSON into the bytes that go on the wire, once each: published events, conflated events, snapshots and the
// gateway's own small messages.

import AuctionEvents
import Fanout
import Wire

enum EventEncoder {
    /// The shared form of a published event; `json` stays byte for byte.
    static func event(_ json: Span<UInt8>, _ envelope: EventEnvelope) -> EncodedEvent {
        var frame: [UInt8] = []
        frame.reserveCapacity(WebSocketFrame.maximumHeaderBytes + json.count)
        WebSocketFrame.appendHeader(.text, payloadCount: json.count, to: &frame)
        let start = frame.count
        json.withUnsafeBufferPointer { frame.append(contentsOf: $0) }
        return EncodedEvent(
            sequence: envelope.sequence,
            isConflatable: envelope.kind == .bidUpdate && envelope.sequence != 0,
            isDroppable: envelope.kind == .viewers,
            frame: frame, jsonStart: start)
    }

    /// The frame of `event` standing for `first`…its own sequence number: the JSON with `from_seq` put in front.
    static func conflated(_ event: EncodedEvent, from first: UInt64) -> [UInt8] {
        var json = Array(#"{"from_seq":\#(first),"#.utf8)
        // The JSON was checked to be an object with at least its type; white space may precede the brace.
        let brace = event.json.firstIndex(of: UInt8(ascii: "{")) ?? event.jsonStart
        json.append(contentsOf: event.frame[(brace + 1)...])
        return WebSocketFrame.encode(.text, json)
    }

    static func snapshot(
        _ snapshot: Snapshot, auctionID: String, complete: Bool, serverTime: Timestamp
    ) -> [UInt8] {
        var writer = JSONWriter(capacity: 256 + (snapshot.state?.count ?? 4))
        writer.object {
            $0.field("type", "SNAPSHOT")
            $0.field("auction_id", auctionID)
            $0.field("seq", snapshot.sequence)
            $0.field("complete", complete)
            $0.field("server_time", serverTime)
            $0.key("state")
            if let state = snapshot.state { $0.raw(state) } else { $0.null() }
        }
        return WebSocketFrame.encode(.text, writer.bytes)
    }

    /// The first message of a watcher whose cursor could be followed.
    static func resumed(
        since: UInt64, sequence: UInt64, auctionID: String, serverTime: Timestamp
    ) -> [UInt8] {
        var writer = JSONWriter(capacity: 192)
        writer.object {
            $0.field("type", "RESUMED")
            $0.field("auction_id", auctionID)
            $0.field("since", since)
            $0.field("seq", sequence)
            $0.field("replayed", sequence - since)
            $0.field("complete", true)
            $0.field("server_time", serverTime)
        }
        return WebSocketFrame.encode(.text, writer.bytes)
    }

    /// The answer to `{"type":"PING","t":X}`; `echo` is X as it was sent.
    static func pong(echo: ArraySlice<UInt8>?, serverTime: Timestamp) -> [UInt8] {
        var writer = JSONWriter(capacity: 128)
        writer.object {
            $0.field("type", "PONG")
            $0.key("t")
            if let echo { $0.raw(echo) } else { $0.null() }
            $0.field("server_time", serverTime)
        }
        return WebSocketFrame.encode(.text, writer.bytes)
    }

    static func error(_ code: String, _ message: String) -> [UInt8] {
        var writer = JSONWriter(capacity: 160)
        writer.object {
            $0.field("type", "ERROR")
            $0.field("error", code)
            $0.field("message", message)
        }
        return WebSocketFrame.encode(.text, writer.bytes)
    }

    /// The state object as it is kept in Redis, split into its sequence number and the rest; `nil` when it is not what
    /// the contract says.
    static func snapshot(fromStored stored: [UInt8]) -> Snapshot? {
        guard stored.count <= Limits.stateBytes, EventEnvelope.isUTF8(stored.span) else { return nil }
        var sequence: UInt64?
        var member = 0..<0
        var scanner = JSONScanner()
        do throws(JSONScanner.Failure) {
            while let next = try scanner.next(in: stored.span) {
                guard stored.span.matches("seq", in: next.key) else { continue }
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
        return Snapshot(sequence: sequence, state: without(member, in: stored))
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
