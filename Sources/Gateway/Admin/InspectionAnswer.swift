// The JSON of an operator's question.

import AuctionEvents

struct InspectionAnswer {
    let question: InspectionQuestion
    let parts: [InspectionPart]
    /// Loops that have not answered in time.
    let missing: Int

    /// `nil` when there is no such auction here.
    var json: [UInt8]? {
        var writer = JSONWriter()
        switch question {
        case .auction(let id):
            let (loops, feed) = (loopViews, feedView)
            guard feed != nil || loops.contains(where: { $0.sequence != nil }) else { return nil }
            writer.object { writeAuction(id, feed, loops, to: &$0) }
        case .slowestWatchers(let most):
            let slowest =
                watcherViews
                .sorted { $0.seconds > $1.seconds }.prefix(most)
            writer.object {
                $0.key("watchers")
                $0.array { writer in for view in slowest { writer.object { write(view, to: &$0) } } }
                $0.field("missing", missing)
            }
        case .redis:
            let servers = serverViews
            writer.object {
                $0.key("servers")
                $0.array { writer in for view in servers { writer.object { write(view, to: &$0) } } }
                $0.field("missing", missing)
            }
        }
        return writer.bytes + [0x0A]
    }

    private var loopViews: [LoopView] {
        parts.compactMap { part in if case .loop(let view) = part { view } else { nil } }
            .sorted { $0.loop < $1.loop }
    }

    private var watcherViews: [SlowWatcherView] {
        parts.flatMap { part -> [SlowWatcherView] in if case .watchers(let views) = part { views } else { [] }
        }
    }

    private var serverViews: [ServerView] {
        parts.flatMap { part -> [ServerView] in if case .servers(let views) = part { views } else { [] } }
    }

    private var feedView: FeedView? {
        for case .feed(let view) in parts { return view }
        return nil
    }

    private func writeAuction(
        _ id: String, _ feed: FeedView?, _ loops: [LoopView], to writer: inout JSONWriter
    ) {
        writer.field("auction_id", id)
        if let feed {
            writer.field("seq", feed.sequence)
            writer.number("state_seq", feed.stateSequence)
            writer.field("live", feed.isLive)
            writer.field("subscribed", feed.isSubscribed)
            writer.field("redis", feed.server)
            writer.number("gap_ms", feed.gapMilliseconds)
            writer.field("held_events", feed.heldEvents)
            writer.field("history_events", feed.historyEvents)
            writer.field("history_bytes", feed.historyBytes)
        }
        writer.key("loops")
        writer.array { writer in
            for view in loops {
                writer.object {
                    $0.field("loop", view.loop)
                    $0.number("seq", view.sequence)
                    $0.field("websocket", view.webSockets)
                    $0.field("sse", view.eventStreams)
                    $0.field("longpoll", view.longPolls)
                    $0.field("subscriptions", view.subscriptions)
                    $0.field("waiting", view.waiting)
                    $0.field("backlogs", view.backlogs)
                    $0.number("oldest_backlog_ms", view.oldestBacklogSeconds.map { Int64($0 * 1_000) })
                }
            }
        }
        writer.field("missing", missing)
    }

    private func write(_ view: SlowWatcherView, to writer: inout JSONWriter) {
        writer.field("address", view.address)
        writer.field("transport", view.transport)
        writer.field("auction_id", view.auctionID)
        writer.field("loop", view.loop)
        writer.field("waiting_ms", Int(view.seconds * 1_000))
        writer.field("waiting_bytes", view.bytes)
        writer.field("cursor", view.cursor)
        writer.field("newest", view.newest)
    }

    private func write(_ view: ServerView, to writer: inout JSONWriter) {
        writer.field("redis", view.label)
        writer.field("delivers", view.isUp)
        writer.number("probe_age_ms", view.probeAgeMilliseconds)
        writer.field("heartbeat_missing", view.isHeartbeatMissing)
        writer.field("topics", view.topics)
        writer.field("reads_under_way", view.readsUnderWay)
        writer.field("reads_waiting", view.readsWaiting)
    }
}

extension JSONWriter {
    fileprivate mutating func number(_ key: String, _ value: (some BinaryInteger)?) {
        field(key, raw: value.map { "\($0)" } ?? "null")
    }
}
