import Fanout
import LiveProtocol
import TestSupport
import Testing

@Suite struct BacklogTests {
    private let bounds = Backlog.Bounds(lossless: 100, messages: 100, control: 10)
    private let unbounded = Backlog.Bounds(lossless: .max, messages: .max, control: .max)

    private func bid(_ sequence: UInt64, bytes: Int = 4) -> EncodedEvent {
        event("b", sequence, .conflatable, bytes)
    }

    private func lossless(_ sequence: UInt64, bytes: Int = 4) -> EncodedEvent {
        event("l", sequence, .lossless, bytes)
    }

    private func event(
        _ letter: String, _ sequence: UInt64, _ treatment: EncodedEvent.Treatment, _ bytes: Int = 4
    ) -> EncodedEvent {
        let text = "\(letter)\(sequence);"
        let padding = [UInt8](repeating: UInt8(ascii: "."), count: max(0, bytes - text.utf8.count))
        return EncodedEvent(
            sequence: sequence, cursor: sequence, treatment: treatment, type: letter,
            frame: Array(text.utf8) + padding, jsonStart: 0)
    }

    /// `b3-5;` for bids 3 to 5 in one, the event's own frame otherwise.
    private static func encode(_ event: EncodedEvent, _ first: UInt64, _ watch: UInt32) -> [UInt8] {
        first == event.sequence ? event.frame : Array("b\(first)-\(event.sequence);".utf8)
    }

    /// Everything the backlog writes to a socket that takes `chunk` bytes a call.
    private func written(_ backlog: inout Backlog, chunk: Int = .max) -> String {
        var output: [UInt8] = []
        _ = backlog.flush(
            encode: Self.encode,
            send: { bytes in
                let taken = min(chunk, bytes.count)
                output += bytes.prefix(taken)
                return taken
            })
        return String(decoding: output, as: UTF8.self).replacing(".", with: "")
    }

    @Test("a newer FEED replaces an unsent one of the same watch, and comes behind what was queued before it")
    func replaceable() {
        var backlog = Backlog(frame: Array("x".utf8), hasManyWatches: true)
        for (event, watch) in [
            (event("d", 0, .replaceable), 1), (event("d", 0, .replaceable), 2), (lossless(6), 1),
            (event("u", 0, .replaceable), 1),
        ] {
            let fits = backlog.enqueue(event, first: event.sequence, watch: UInt32(watch), bounds: bounds)
            #expect(fits)
        }
        #expect(written(&backlog) == "xd0;l6;u0;")
        #expect(backlog.isEmpty)
    }

    @Test("bids that follow one another merge into the newest and say from where")
    func conflates() {
        var backlog = Backlog()
        for sequence in UInt64(1)...5 {
            #expect(backlog.enqueue(bid(sequence), first: sequence, bounds: bounds) == true)
        }
        #expect(backlog.count == 1)
        #expect(written(&backlog) == "b1-5;")
        #expect(backlog.isEmpty)
    }

    @Test("nothing merges across a lossless event or a message")
    func keepsOrder() {
        var backlog = Backlog()
        _ = backlog.enqueue(bid(1), first: 1, bounds: bounds)
        _ = backlog.enqueue(lossless(2), first: 2, bounds: bounds)
        _ = backlog.enqueue(bid(3), first: 3, bounds: bounds)
        _ = backlog.enqueue(bid(4), first: 4, bounds: bounds)
        _ = backlog.enqueue(bytes: Array("m;".utf8), bounds: bounds)
        _ = backlog.enqueue(bid(5), first: 5, bounds: bounds)
        #expect(written(&backlog) == "b1;l2;b3-4;m;b5;")
    }

    @Test("a frame that is partly out is finished first, then control frames, then the queue")
    func ordersControl() {
        var backlog = Backlog(frame: Array("partial;".utf8), sent: 4)
        _ = backlog.enqueue(bid(1), first: 1, bounds: bounds)
        _ = backlog.enqueue(control: Array("c1;".utf8), bounds: bounds)
        _ = backlog.enqueue(control: Array("c2;".utf8), bounds: bounds)
        #expect(written(&backlog) == "ial;c1;c2;b1;")
    }

    @Test("an event that is partly out no longer merges")
    func partlySentStays() {
        var backlog = Backlog()
        _ = backlog.enqueue(bid(1, bytes: 8), first: 1, bounds: bounds)
        var output: [UInt8] = []
        _ = backlog.flush(
            encode: Self.encode,
            send: {
                output += $0.prefix(2); return 2
            })
        _ = backlog.enqueue(bid(2), first: 2, bounds: bounds)
        #expect(String(decoding: output, as: UTF8.self) == "b1")
        #expect(written(&backlog) == ";b2;")
    }

    @Test("lossless bytes and control bytes are bounded; bids and droppable events cost nothing more")
    func isBounded() {
        var backlog = Backlog()
        #expect(backlog.enqueue(lossless(1, bytes: 60), first: 1, bounds: bounds) == true)
        #expect(backlog.enqueue(lossless(2, bytes: 60), first: 2, bounds: bounds) == false)
        var control = Backlog(frame: [1], sent: 0)
        #expect(control.enqueue(control: [UInt8](repeating: 0, count: 10), bounds: bounds) == true)
        #expect(control.enqueue(control: [0], bounds: bounds) == false)
        var bids = Backlog(frame: [1], sent: 0)
        for sequence in UInt64(1)...10_000 {
            #expect(bids.enqueue(bid(sequence), first: sequence, bounds: bounds) == true)
        }
        #expect(bids.count == 1 && bids.losslessBytes == 0)
        #expect(bids.enqueue(event("v", 0, .droppable), first: 0, bounds: bounds) == true)
        #expect(bids.count == 1)
        var answers = Backlog(frame: [1], sent: 0)
        #expect(answers.enqueue(event("m", 0, .message, 60), first: 0, bounds: bounds) == true)
        #expect(answers.enqueue(bytes: [UInt8](repeating: 0, count: 60), bounds: bounds) == false)
    }

    @Test("over one connection each auction's bids merge with their own, and stay before its later events")
    func mergesByWatch() {
        var backlog = Backlog(hasManyWatches: true)
        func add(_ event: EncodedEvent, _ watch: UInt32) {
            _ = backlog.enqueue(event, first: event.sequence, watch: watch, bounds: unbounded)
        }
        add(bid(1), 7)
        add(bid(11), 8)
        add(bid(2), 7)
        add(lossless(12), 8)
        add(bid(13), 8)
        add(bid(3), 7)
        add(bid(14), 8)
        #expect(written(&backlog) == "b1-3;b11;l12;b13-14;")
        add(bid(4), 7)
        backlog.forget(watch: 7)
        add(bid(5), 7)
        #expect(written(&backlog) == "b4;b5;", "a number that was given up names another watch")
    }

    @Test("any mixture written in any pieces declares every jump and keeps every lossless event")
    func keepsPromises() {
        var generator = SeededGenerator.announced("backlog")
        for _ in 0..<500 {
            var backlog = Backlog()
            var output = ""
            var losslessSent: [UInt64] = []
            let last = UInt64.random(in: 1...80, using: &generator)
            for sequence in 1...last {
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    losslessSent.append(sequence)
                    #expect(backlog.enqueue(lossless(sequence), first: sequence, bounds: unbounded) == true)
                } else {
                    #expect(backlog.enqueue(bid(sequence), first: sequence, bounds: unbounded) == true)
                }
                if Bool.random(using: &generator) {
                    var budget = Int.random(in: 0...12, using: &generator)
                    _ = backlog.flush(
                        encode: Self.encode,
                        send: { bytes in
                            let taken = min(budget, bytes.count)
                            budget -= taken
                            output += String(decoding: bytes.prefix(taken), as: UTF8.self)
                            return taken
                        })
                }
            }
            output += written(&backlog)
            #expect(backlog.isEmpty && backlog.losslessBytes == 0)
            var next: UInt64 = 1
            var losslessSeen: [UInt64] = []
            for entry in output.replacing(".", with: "").split(separator: ";") {
                let numbers = entry.dropFirst().split(separator: "-").compactMap { UInt64($0) }
                #expect(numbers.first == next, "an undeclared jump: \(entry) instead of \(next)")
                next = (numbers.last ?? next) + 1
                if entry.first == "l" { losslessSeen += numbers }
            }
            #expect(next == last + 1 && losslessSeen == losslessSent)
        }
    }
}
