// Prints each price of an auction until it ends: swiftc Watch.swift && ./Watch http://127.0.0.1:8080 a1
// It reads the event stream, and comes back from the cursor, so that nothing is missed or seen twice.

import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

struct Message: Decodable {
    struct State: Decodable {
        let status: String
        let current_price: Double
    }

    let seq: Int?
    let current_price: Double?
    let state: State?
    let outcome: String?
}

/// One connection. Calls `take` with the type and the data of each server-sent event.
final class EventStream: NSObject, URLSessionDataDelegate {
    // URLSession calls from one queue.
    nonisolated(unsafe) private var buffer = ""
    private let take: (String, Data) -> Void
    private let end: () -> Void

    init(take: @escaping (String, Data) -> Void, end: @escaping () -> Void) {
        self.take = take
        self.end = end
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        buffer += String(decoding: data, as: UTF8.self)
        while let gap = buffer.range(of: "\n\n") {
            let lines = buffer[..<gap.lowerBound].split(separator: "\n")
            buffer = String(buffer[gap.upperBound...])
            func field(_ name: String) -> Substring? {
                lines.first { $0.hasPrefix(name + ": ") }?.dropFirst(name.count + 2)
            }
            if let type = field("event"), let data = field("data") { take(String(type), Data(data.utf8)) }
        }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        end()
    }
}

let address = "\(CommandLine.arguments[1])/v1/auctions/\(CommandLine.arguments[2])/live"
// Written by the session's queue while this thread waits for its signal.
nonisolated(unsafe) var cursor: Int?
nonisolated(unsafe) var isOver = false

while !isOver {
    var request = URLRequest(url: URL(string: address + (cursor.map { "?since=\($0)" } ?? ""))!)
    request.setValue("text/event-stream", forHTTPHeaderField: "Accept")
    request.timeoutInterval = 60
    let ended = DispatchSemaphore(value: 0)
    let stream = EventStream { type, data in
        guard let message = try? JSONDecoder().decode(Message.self, from: data), let seq = message.seq,
            type == "SNAPSHOT" || type != "RESUMED" && seq > cursor ?? 0
        else { return }
        cursor = seq
        if let price = message.state?.current_price ?? message.current_price { print(seq, price) }
        guard let outcome = message.outcome ?? message.state?.status,
            ["sold", "unsold", "cancelled"].contains(outcome)
        else { return }
        print(seq, outcome)
        isOver = true
        ended.signal()
    } end: {
        ended.signal()
    }
    let session = URLSession(configuration: .ephemeral, delegate: stream, delegateQueue: nil)
    session.dataTask(with: request).resume()
    ended.wait()
    session.invalidateAndCancel()
    if !isOver { Thread.sleep(forTimeInterval: .random(in: 0...1)) }
}
