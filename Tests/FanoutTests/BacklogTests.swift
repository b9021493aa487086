import Fanout
import TestSupport
import Testing

@Suite struct BacklogTests {
    private func bid(_ sequence: UInt64, bytes: Int = 4) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, isConflatable: true, isDroppable: false,
            frame: frame("b\(sequence)", bytes), jsonStart: 0)
    }

    private func lossless(_ sequence: UInt64, bytes: Int = 4) -> EncodedEvent {
        EncodedEvent(
            sequence: sequence, isConflatable: false, isDroppable: false,
            frame: frame("l\(sequence)", bytes), jsonStart: 0)
    }

    private func frame(_ text: String, _ bytes: Int) -> [UInt8] {
        Array((text + ";").utf8)
            + [UInt8](repeating: UInt8(ascii: "."), count: max(0, bytes - text.utf8.count - 1))
    }

    /// Everything the backlog writes to a socket that takes `chunk` bytes a call.
    private func written(_ backlog: inout Backlog, chunk: Int = .max) -> String {
        var output: [UInt8] = []
        _ = backlog.flush(
            encode: { Array("b\($1)-\($0.sequence);".utf8) },
            send: { bytes in
                let taken = min(chunk, bytes.count)
                output += bytes.prefix(taken)
                return taken
            })
        return String(decoding: output, as: UTF8.self).replacing(".", with: "")
    }

    @Test("bids that follow one another merge into the newest and say from where")
    func conflates() {
        var backlog = Backlog()
        for sequence in UInt64(1)...5 { #expect(backlog.enqueue(bid(sequence), losslessLimit: 100) == true) }
        #expect(backlog.count == 1)
        #expect(written(&backlog) == "b1-5;")
        #expect(backlog.isEmpty)
    }

    @Test("nothing merges across a lossless event or a message")
    func keepsOrder() {
        var backlog = Backlog()
        _ = backlog.enqueue(bid(1), losslessLimit: 100)
        _ = backlog.enqueue(lossless(2), losslessLimit: 100)
        _ = backlog.enqueue(bid(3), losslessLimit: 100)
        _ = backlog.enqueue(bid(4), losslessLimit: 100)
        _ = backlog.enqueue(message: Array("m;".utf8), losslessLimit: 100)
        _ = backlog.enqueue(bid(5), losslessLimit: 100)
        #expect(written(&backlog) == "b1;l2;b3-4;m;b5;")
    }

    @Test("a frame that is partly out is finished first, then control frames, then the queue")
    func ordersControl() {
        var backlog = Backlog(frame: Array("partial;".utf8), sent: 4)
        _ = backlog.enqueue(bid(1), losslessLimit: 100)
        _ = backlog.enqueue(control: Array("c1;".utf8), controlLimit: 10)
        _ = backlog.enqueue(control: Array("c2;".utf8), controlLimit: 10)
        #expect(written(&backlog) == "ial;c1;c2;b1;")
    }

    @Test("an event that is partly out no longer merges")
    func partlySentStays() {
        var backlog = Backlog()
        _ = backlog.enqueue(bid(1, bytes: 8), losslessLimit: 100)
        var output: [UInt8] = []
        _ = backlog.flush(
            encode: { _, _ in [] },
            send: {
                output += $0.prefix(2); return 2
            })
        _ = backlog.enqueue(bid(2), losslessLimit: 100)
        #expect(String(decoding: output, as: UTF8.self) == "b1")
        #expect(written(&backlog) == ";b2;")
    }

    @Test("lossless bytes and control bytes are bounded; bids and droppable events cost nothing more")
    func isBounded() {
        var backlog = Backlog()
        #expect(backlog.enqueue(lossless(1, bytes: 60), losslessLimit: 100) == true)
        #expect(backlog.enqueue(lossless(2, bytes: 60), losslessLimit: 100) == false)
        var control = Backlog(frame: [1], sent: 0)
        #expect(control.enqueue(control: [UInt8](repeating: 0, count: 10), controlLimit: 10) == true)
        #expect(control.enqueue(control: [0], controlLimit: 10) == false)
        var bids = Backlog(frame: [1], sent: 0)
        for sequence in UInt64(1)...10_000 { #expect(bids.enqueue(bid(sequence), losslessLimit: 1) == true) }
        #expect(bids.count == 1 && bids.losslessBytes == 0)
        let viewers = EncodedEvent(
            sequence: 0, isConflatable: false, isDroppable: true, frame: [1], jsonStart: 0)
        #expect(bids.enqueue(viewers, losslessLimit: 0) == true)
        #expect(bids.count == 1)
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
                    #expect(backlog.enqueue(lossless(sequence), losslessLimit: .max) == true)
                } else {
                    #expect(backlog.enqueue(bid(sequence), losslessLimit: .max) == true)
                }
                if Bool.random(using: &generator) {
                    var budget = Int.random(in: 0...12, using: &generator)
                    _ = backlog.flush(
                        encode: { Array("b\($1)-\($0.sequence);".utf8) },
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
