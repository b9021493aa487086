// The counters of all threads, summed and written for Prometheus and as JSON.

import AuctionEvents
import Reactor
import Settings
import Synchronization
import Telemetry

extension Metric where Source == Shared {
    /// A number that is summed over the loops.
    fileprivate static func loops(
        _ kind: PrometheusText.Kind, _ name: String, _ help: String,
        _ read: @escaping @Sendable (LoopCounters) -> Int
    ) -> Self {
        Self(kind, name, help) { shared in
            .number(shared.loops.reduce(0) { $0 + read($1.counters) })
        }
    }

    /// A number of the feed.
    fileprivate static func feed(
        _ kind: PrometheusText.Kind, _ name: String, _ help: String,
        _ read: @escaping @Sendable (FeedCounters) -> Int
    ) -> Self {
        Self(kind, name, help) { .number(read($0.feedCounters)) }
    }

    fileprivate static func process(
        _ kind: PrometheusText.Kind, _ name: String, _ help: String,
        _ read: @escaping @Sendable (Shared) -> Int
    ) -> Self {
        Self(kind, name, help) { .number(read($0)) }
    }

    /// Counts by kind, summed over the loops.
    fileprivate static func tallies<Kind>(
        _ name: String, _ help: String, _ label: String,
        _ read: @escaping @Sendable (LoopCounters) -> Tally<Kind>
    ) -> Self {
        Self(.counter, name, help) { shared in
            .tally(label: label, shared.loops.map { read($0.counters) })
        }
    }

    /// A histogram that is summed over the loops.
    fileprivate static func durations(
        _ name: String, _ help: String, _ read: @escaping @Sendable (LoopCounters) -> LocalHistogram
    ) -> Self {
        Self(.histogram, name, help) { shared in .sum(shared.loops.map { read($0.counters) }) }
    }
}

enum GatewayMetrics {
    /// To add a metric, add a line here.
    static let table: [Metric<Shared>] = [
        .loops(.gauge, "gavelcast_connections", "Open connections.") { $0.connections.current },
        .loops(.gauge, "gavelcast_subscriptions", "Subscriptions on connections that watch several auctions.")
        { $0.subscriptions.current },
        .loops(.gauge, "gavelcast_backlogs", "Watchers whose socket is full.") { $0.backlogs.current },
        .loops(.counter, "gavelcast_accepted_total", "Connections accepted.") { $0.accepted.current },
        .loops(.counter, "gavelcast_connections_taken_total", "Connections taken over from an older process.")
        { $0.taken.current },
        .loops(.counter, "gavelcast_connections_given_total", "Connections handed to a newer process.") {
            $0.given.current
        },
        .loops(.counter, "gavelcast_upgrades_total", "WebSocket handshakes completed.") {
            $0.upgrades.current
        },
        .loops(.counter, "gavelcast_requests_total", "HTTP requests read.") { $0.requests.current },
        .loops(.counter, "gavelcast_refused_heads_total", "Malformed or oversized heads.") {
            $0.refusedHeads.current
        },
        .loops(.counter, "gavelcast_protocol_errors_total", "WebSocket violations.") {
            $0.protocolErrors.current
        },
        .loops(.counter, "gavelcast_tls_handshakes_total", "TLS handshakes completed.") {
            $0.handshakes.current
        },
        .loops(.counter, "gavelcast_tls_resumed_total", "TLS handshakes that took up a session.") {
            $0.handshakesResumed.current
        },
        .loops(.counter, "gavelcast_tls_failures_total", "TLS handshakes that failed.") {
            $0.handshakesFailed.current
        },
        .loops(.counter, "gavelcast_timeouts_total", "Connections closed by a timeout.") {
            $0.timeouts.current
        },
        .loops(.counter, "gavelcast_deliveries_total", "Events delivered or queued.") {
            $0.deliveries.current
        },
        .loops(.counter, "gavelcast_snapshots_total", "Snapshots sent.") { $0.snapshots.current },
        .loops(.counter, "gavelcast_slow_closes_total", "Watchers closed as too slow.") {
            $0.slowCloses.current
        },
        .loops(.counter, "gavelcast_accept_pauses_total", "Times an event loop paused accepting connections.")
        { $0.acceptPauses.current },
        .loops(.counter, "gavelcast_tokens_refused_total", "Tokens refused.") { $0.refusedTokens.current },
        .loops(.counter, "gavelcast_tokens_expired_total", "Watches ended because their token expired.") {
            $0.expiredTokens.current
        },
        .loops(.counter, "gavelcast_tokens_deferred_total", "Token checks put off to a later loop turn.") {
            $0.deferredTokens.current
        },
        .feed(.gauge, "gavelcast_channels", "Auctions subscribed in Redis.") { $0.channels.current },
        .feed(.gauge, "gavelcast_history_bytes", "Bytes of events kept for replay.") {
            $0.historyBytes.current
        },
        .feed(.gauge, "gavelcast_redis_links", "Redis servers, or nodes of the cluster.") {
            $0.links.current
        },
        .feed(.gauge, "gavelcast_redis_links_delivering", "Redis links whose probes come back.") {
            $0.linksDelivering.current
        },
        .feed(.counter, "gavelcast_redis_link_losses_total", "Redis links lost.") { $0.linkLosses.current },
        .feed(
            .counter, "gavelcast_redis_refusals_total",
            "Auctions and users whose channel or keys Redis refused to this gateway."
        ) { $0.refusedTopics.current },
        .feed(
            .counter, "gavelcast_redis_moves_total",
            "Auctions and users that moved to another node of a Redis Cluster."
        ) { $0.channelMoves.current },
        .feed(.counter, "gavelcast_events_total", "Events accepted from Redis.") { $0.events.current },
        .feed(.counter, "gavelcast_states_rejected_total", "Malformed states.") { $0.rejectedStates.current },
        .feed(.counter, "gavelcast_duplicates_total", "Events dropped as repeated.") {
            $0.duplicates.current
        },
        .feed(.counter, "gavelcast_gaps_filled_total", "Gaps filled from the log.") { $0.gapsFilled.current },
        .feed(.counter, "gavelcast_jumps_total", "Gaps given up and declared.") { $0.jumps.current },
        .feed(.counter, "gavelcast_state_reads_total", "States read from Redis.") { $0.stateReads.current },
        .feed(.counter, "gavelcast_refused_reads_total", "Reads of states and logs that Redis refused.") {
            $0.refusedReads.current
        },
        .feed(.counter, "gavelcast_log_reads_total", "Logs read from Redis.") { $0.logReads.current },
        .feed(.counter, "gavelcast_viewers_announced_total", "Numbers of viewers announced.") {
            $0.viewersAnnounced.current
        },
        .feed(.counter, "gavelcast_mailbox_overflows_total", "Events that did not fit the mailbox of a loop.")
        { $0.mailboxOverflows.current },
        .process(.gauge, "gavelcast_resident_bytes", "Resident memory.") { _ in ProcessMemory.residentBytes()
        },
        .process(.gauge, "gavelcast_over_memory", "1 while new watchers are refused for want of memory.") {
            $0.isOverMemory.load(ordering: .relaxed) ? 1 : 0
        },
        .loops(.gauge, "gavelcast_waiting_watchers", "Watchers that wait for their first message.") {
            $0.waiting.current
        },
        .loops(
            .gauge, "gavelcast_backlog_bytes",
            "Bytes that full sockets have not taken, without bids that may still merge."
        ) { $0.backlogBytes.current },
        .loops(.gauge, "gavelcast_tls_sessions", "Open TLS sessions.") { $0.sessions.current },
        .tallies(
            "gavelcast_delivered_bytes_total", "Bytes given to sockets, by what carries them.", "carrier"
        ) { $0.deliveredBytes },
        .tallies(
            "gavelcast_resumes_total", "Watchers that gave a cursor, by where their events came from.",
            "source"
        ) { $0.resumes },
        .tallies("gavelcast_conflated_total", "Bids merged into a newer one, by cause.", "cause") {
            $0.conflated
        },
        .tallies(
            "gavelcast_refusals_total", "Connections, watches and messages refused, by reason.", "reason"
        ) { $0.refusals },
        .tallies("gavelcast_closes_total", "Watching connections that ended, by close code.", "code") {
            $0.closes
        },
        .durations("gavelcast_turn_seconds", "How long turns of the event loops take, without their wait.") {
            $0.turns
        },
        Metric(
            .histogram, "gavelcast_event_age_seconds",
            "From an event's publication (server_time) to the end of its walk over the watchers."
        ) {
            .sum($0.loops.map(\.counters.eventAges), exemplars: $0.eventAgeExemplars.all)
        },
        Metric(
            .counter, "gavelcast_spans_dropped_total", "Spans of traces that could not be written."
        ) {
            .number($0.spans?.dropped ?? 0)
        },
        .durations(
            "gavelcast_first_watcher_seconds",
            "From an event's receipt to the beginning of its walk over the watchers."
        ) { $0.firstSends },
        .durations(
            "gavelcast_last_watcher_seconds",
            "From an event's receipt to the end of its walk over the watchers."
        ) { $0.lastSends },
        Metric(
            .histogram, "gavelcast_receipt_age_seconds",
            "From an event's publication (server_time) to its receipt from Redis."
        ) {
            .histogram($0.feedCounters.receipts.snapshot)
        },
        Metric(
            .histogram, "gavelcast_repair_seconds", "From a gap's discovery to its end, filled or declared."
        ) {
            .histogram($0.feedCounters.repairs.snapshot)
        },
        Metric(.counter, "gavelcast_gaps_total", "Gaps found in a sequence, by cause.") {
            .tally(label: "cause", [$0.feedCounters.gaps])
        },
        Metric(.counter, "gavelcast_events_rejected_total", "Messages dropped, by reason.") {
            .tally(label: "reason", [$0.feedCounters.rejected])
        },
        Metric(
            .gauge, "gavelcast_redis_probe_age_seconds",
            "How long ago the server that has been silent for longest proved that it delivers."
        ) {
            let proof = Int64($0.feedCounters.oldestProof.current)
            return proof == 0 ? .missing : .fraction(Double(Clock.monotonicMilliseconds() - proof) / 1_000)
        },
        Metric(.counter, "gavelcast_loop_busy_seconds_total", "Time that each event loop worked.") { shared in
            .fractions(
                label: "loop",
                shared.loops.map { ("\($0.index)", Double($0.counters.busyMicroseconds.current) / 1e6) })
        },
        Metric(.gauge, "gavelcast_loop_connections", "Open connections of each event loop.") { shared in
            .numbers(label: "loop", shared.loops.map { ("\($0.index)", $0.counters.connections.current) })
        },
        Metric(.gauge, "gavelcast_watchers", "Watching connections by transport.") { shared in
            func sum(_ read: (LoopCounters) -> Int) -> Int {
                shared.loops.reduce(0) { $0 + read($1.counters) }
            }
            return .numbers(
                label: "transport",
                [
                    ("websocket", sum { $0.webSockets.current }), ("sse", sum { $0.eventStreams.current }),
                    ("longpoll", sum { $0.longPolls.current }),
                ])
        },
    ]

    static func text(_ shared: Shared, _ format: PrometheusText.Format) -> PrometheusText {
        var text = PrometheusText(format)
        for metric in table { metric.write(of: shared, to: &text) }
        text.addProcess(version: ProgramEntry.version)
        return text
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
