// The counters of all threads, summed and written for Prometheus and as JSON.

import AuctionEvents
import Settings
import Synchronization
import Telemetry

enum GatewayMetrics {
    /// A metric of one number.
    struct Metric: Sendable {
        enum Source: Sendable {
            /// Summed over the loops.
            case loops(@Sendable (LoopCounters) -> Int)
            case feed(@Sendable (FeedCounters) -> Int)
            case process(@Sendable (Shared) -> Int)
        }

        let kind: PrometheusText.Kind
        let name: String
        let help: String
        private let source: Source

        init(_ kind: PrometheusText.Kind, _ name: String, _ help: String, _ source: Source) {
            self.kind = kind
            self.name = name
            self.help = help
            self.source = source
        }

        func value(_ shared: Shared) -> Int {
            switch source {
            case .loops(let read): shared.loops.reduce(0) { $0 + read($1.counters) }
            case .feed(let read): read(shared.feedCounters)
            case .process(let read): read(shared)
            }
        }
    }

    /// To add a metric of one number, add a line here.
    static let table: [Metric] = [
        Metric(.gauge, "gavelcast_connections", "Open connections.", .loops { $0.connections.current }),
        Metric(
            .gauge, "gavelcast_subscriptions", "Subscriptions on connections that watch several auctions.",
            .loops { $0.subscriptions.current }),
        Metric(
            .gauge, "gavelcast_backlogs", "Watchers whose socket is full.", .loops { $0.backlogs.current }),
        Metric(.counter, "gavelcast_accepted_total", "Connections accepted.", .loops { $0.accepted.current }),
        Metric(
            .counter, "gavelcast_connections_taken_total", "Connections taken over from an older process.",
            .loops { $0.taken.current }),
        Metric(
            .counter, "gavelcast_connections_given_total", "Connections handed to a newer process.",
            .loops { $0.given.current }),
        Metric(
            .counter, "gavelcast_upgrades_total", "WebSocket handshakes completed.",
            .loops { $0.upgrades.current }),
        Metric(.counter, "gavelcast_requests_total", "HTTP requests read.", .loops { $0.requests.current }),
        Metric(
            .counter, "gavelcast_refused_heads_total", "Malformed or oversized heads.",
            .loops { $0.refusedHeads.current }),
        Metric(
            .counter, "gavelcast_protocol_errors_total", "WebSocket violations.",
            .loops { $0.protocolErrors.current }),
        Metric(
            .counter, "gavelcast_tls_handshakes_total", "TLS handshakes completed.",
            .loops { $0.handshakes.current }),
        Metric(
            .counter, "gavelcast_tls_resumed_total", "TLS handshakes that took up a session.",
            .loops { $0.handshakesResumed.current }),
        Metric(
            .counter, "gavelcast_tls_failures_total", "TLS handshakes that failed.",
            .loops { $0.handshakesFailed.current }),
        Metric(
            .counter, "gavelcast_timeouts_total", "Connections closed by a timeout.",
            .loops { $0.timeouts.current }),
        Metric(
            .counter, "gavelcast_deliveries_total", "Events delivered or queued.",
            .loops { $0.deliveries.current }),
        Metric(
            .counter, "gavelcast_delivered_bytes_total", "Bytes given to sockets.",
            .loops { $0.deliveredBytes.current }),
        Metric(.counter, "gavelcast_snapshots_total", "Snapshots sent.", .loops { $0.snapshots.current }),
        Metric(
            .counter, "gavelcast_resumes_total", "Watchers that went on from their cursor.",
            .loops { $0.resumes.current }),
        Metric(
            .counter, "gavelcast_conflated_total", "Bids merged into a newer one.",
            .loops { $0.conflated.current }),
        Metric(
            .counter, "gavelcast_slow_closes_total", "Watchers closed as too slow.",
            .loops { $0.slowCloses.current }),
        Metric(
            .counter, "gavelcast_over_capacity_total", "Connections refused.",
            .loops { $0.overCapacity.current }),
        Metric(
            .counter, "gavelcast_over_address_limit_total", "Connections over the limit of their address.",
            .loops { $0.overAddressLimit.current }),
        Metric(
            .counter, "gavelcast_over_message_rate_total", "Clients closed because they sent too much.",
            .loops { $0.overMessageRate.current }),
        Metric(
            .counter, "gavelcast_accept_pauses_total", "Times an event loop paused accepting connections.",
            .loops { $0.acceptPauses.current }),
        Metric(
            .counter, "gavelcast_tokens_refused_total", "Tokens refused.", .loops { $0.refusedTokens.current }
        ),
        Metric(
            .counter, "gavelcast_tokens_expired_total", "Watches ended because their token expired.",
            .loops { $0.expiredTokens.current }),
        Metric(
            .counter, "gavelcast_tokens_deferred_total", "Token checks put off to a later loop turn.",
            .loops { $0.deferredTokens.current }),
        Metric(.gauge, "gavelcast_channels", "Auctions subscribed in Redis.", .feed { $0.channels.current }),
        Metric(
            .gauge, "gavelcast_history_bytes", "Bytes of events kept for replay.",
            .feed { $0.historyBytes.current }),
        Metric(
            .gauge, "gavelcast_redis_links_delivering", "Redis links whose probes come back.",
            .feed { $0.linksDelivering.current }),
        Metric(
            .counter, "gavelcast_redis_link_losses_total", "Redis links lost.",
            .feed { $0.linkLosses.current }),
        Metric(
            .counter, "gavelcast_redis_refusals_total",
            "Auctions and users whose channel or keys Redis refused to this gateway.",
            .feed { $0.refusedTopics.current }),
        Metric(
            .counter, "gavelcast_redis_moves_total",
            "Auctions and users that moved to another node of a Redis Cluster.",
            .feed { $0.channelMoves.current }),
        Metric(
            .counter, "gavelcast_events_total", "Events accepted from Redis.", .feed { $0.events.current }),
        Metric(
            .counter, "gavelcast_states_rejected_total", "Malformed states.",
            .feed { $0.rejectedStates.current }),
        Metric(
            .counter, "gavelcast_duplicates_total", "Events dropped as repeated.",
            .feed { $0.duplicates.current }),
        Metric(.counter, "gavelcast_gaps_total", "Gaps found in a sequence.", .feed { $0.gaps.current }),
        Metric(
            .counter, "gavelcast_gaps_filled_total", "Gaps filled from the log.",
            .feed { $0.gapsFilled.current }),
        Metric(.counter, "gavelcast_jumps_total", "Gaps given up and declared.", .feed { $0.jumps.current }),
        Metric(
            .counter, "gavelcast_state_reads_total", "States read from Redis.",
            .feed { $0.stateReads.current }),
        Metric(
            .counter, "gavelcast_refused_reads_total", "Reads of states and logs that Redis refused.",
            .feed { $0.refusedReads.current }),
        Metric(.counter, "gavelcast_log_reads_total", "Logs read from Redis.", .feed { $0.logReads.current }),
        Metric(
            .counter, "gavelcast_viewers_announced_total", "Numbers of viewers announced.",
            .feed { $0.viewersAnnounced.current }),
        Metric(
            .counter, "gavelcast_mailbox_overflows_total", "Events that did not fit the mailbox of a loop.",
            .feed { $0.mailboxOverflows.current }),
        Metric(
            .gauge, "gavelcast_resident_bytes", "Resident memory.",
            .process { _ in ProcessMemory.residentBytes() }),
        Metric(
            .gauge, "gavelcast_over_memory", "1 while new watchers are refused for want of memory.",
            .process { $0.isOverMemory.load(ordering: .relaxed) ? 1 : 0 }),
    ]

    static func prometheus(_ shared: Shared) -> String {
        var text = PrometheusText()
        func sum(_ counter: (LoopCounters) -> Int) -> Int {
            shared.loops.reduce(0) { $0 + counter($1.counters) }
        }
        for metric in table { text.metric(metric.name, metric.kind, metric.help, metric.value(shared)) }
        text.metric(
            "gavelcast_watchers", .gauge, "Watching connections by transport.",
            [
                (labels: [("transport", "websocket")], value: sum { $0.webSockets.current }),
                (labels: [("transport", "sse")], value: sum { $0.eventStreams.current }),
                (labels: [("transport", "longpoll")], value: sum { $0.longPolls.current }),
            ])
        text.metric(
            "gavelcast_events_rejected_total", .counter, "Messages dropped, by reason.",
            EventEnvelope.Rejection.allCases.map { reason in
                (
                    labels: [("reason", reason.label)],
                    value: shared.feedCounters.withRejected(reason) { $0.current }
                )
            })
        text.addProcess(version: ProgramEntry.version)
        return text.text
    }

    static func stats(_ shared: Shared) -> [UInt8] {
        func sum(_ counter: (LoopCounters) -> Int) -> Int {
            shared.loops.reduce(0) { $0 + counter($1.counters) }
        }
        var writer = JSONWriter()
        writer.object {
            $0.field("ready", shared.isReady)
            $0.field("draining", shared.isDraining.load(ordering: .relaxed))
            $0.field("workers", shared.loops.count)
            $0.key("connections")
            $0.object {
                $0.field("open", sum { $0.connections.current })
                $0.field("websocket", sum { $0.webSockets.current })
                $0.field("sse", sum { $0.eventStreams.current })
                $0.field("longpoll", sum { $0.longPolls.current })
                $0.field("subscriptions", sum { $0.subscriptions.current })
                $0.field("accepted", sum { $0.accepted.current })
            }
            $0.field("auctions", shared.feedCounters.channels.current)
            $0.key("memory")
            $0.object {
                $0.field("resident_bytes", ProcessMemory.residentBytes())
                $0.field("history_bytes", shared.feedCounters.historyBytes.current)
            }
            $0.field("events", shared.feedCounters.events.current)
            $0.field("deliveries", sum { $0.deliveries.current })
            $0.field("backlogs", sum { $0.backlogs.current })
        }
        return writer.bytes + [0x0A]
    }
}

extension FeedCounters {
    /// Gives `body` the counter of messages dropped for `reason`.
    func withRejected<Result>(
        _ reason: EventEnvelope.Rejection, _ body: (borrowing Counter) -> Result
    ) -> Result {
        switch reason {
        case .tooLarge: body(rejectedTooLarge)
        case .notUTF8: body(rejectedNotUTF8)
        case .notJSONObject: body(rejectedNotJSONObject)
        case .duplicateMember: body(rejectedDuplicateMember)
        case .otherAuction: body(rejectedOtherAuction)
        case .noType: body(rejectedNoType)
        case .badSequence: body(rejectedBadSequence)
        }
    }
}
