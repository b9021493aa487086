// The operator's questions under way. Loop 0 asks the other loops and the feed by messages, gathers their
// parts here, and answers when all are in, or after two seconds with those that are. The event loop calls
// this room. It never waits.

import AuctionEvents
import Fanout
import Reactor
import Wire

final class Inspections {
    private struct Pending {
        let connection: UInt64
        let question: InspectionQuestion
        let withBody: Bool
        let endsAt: Int64
        var missing: Int
        var parts: [InspectionPart] = []
    }

    private let context: LoopContext
    private var pending: [Int: Pending] = [:]
    private var nextID = 0

    init(context: LoopContext) {
        self.context = context
    }

    /// Asks a question for a connection, by its token.
    func ask(_ question: InspectionQuestion, for connection: UInt64, withBody: Bool) {
        let id = nextID
        nextID += 1
        let shared = context.shared
        var asked = 0
        if question.concernsLoops {
            for loop in shared.loops { _ = loop.mailbox.post(.inspect(id, question), .always) }
            asked += shared.loops.count
        }
        if question.concernsFeed {
            _ = shared.feedMailbox.post(.inspect(id, question), .always)
            asked += 1
        }
        pending[id] = Pending(
            connection: connection, question: question, withBody: withBody,
            endsAt: context.nowMilliseconds + Limits.inspectionMilliseconds, missing: asked)
    }

    func take(_ part: InspectionPart, of id: Int) {
        pending[id]?.parts.append(part)
        pending[id]?.missing -= 1
    }

    /// An answer that is ready, taken off the list.
    func nextAnswer() -> (connection: UInt64, response: HTTPResponse, withBody: Bool)? {
        guard !pending.isEmpty else { return nil }
        let now = context.nowMilliseconds
        guard let (id, ready) = pending.first(where: { $0.value.missing == 0 || $0.value.endsAt <= now })
        else { return nil }
        pending.removeValue(forKey: id)
        let body = InspectionAnswer(question: ready.question, parts: ready.parts, missing: ready.missing)
        guard let json = body.json else {
            let response = HTTPResponse.error(
                .notFound, "NOT_FOUND", "this gateway does not watch the auction")
            return (ready.connection, response, ready.withBody)
        }
        return (
            ready.connection, HTTPResponse(.ok, fields: [("Content-Type", "application/json")], body: json),
            ready.withBody
        )
    }
}

extension InspectionQuestion {
    fileprivate var concernsLoops: Bool {
        switch self {
        case .auction, .slowestWatchers: true
        case .redis: false
        }
    }

    fileprivate var concernsFeed: Bool {
        switch self {
        case .auction, .redis: true
        case .slowestWatchers: false
        }
    }
}
