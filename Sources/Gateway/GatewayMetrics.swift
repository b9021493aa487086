// The counters of all threads, summed and written for Prometheus and as JSON.

import AuctionEvents
import Synchronization
import Telemetry

enum GatewayMetrics {
    static func prometheus(_ shared: Shared) -> String {
        var text = PrometheusText()
        func sum(_ counter: (WorkerCounters) -> Int) -> Int {
            shared.workers.reduce(0) { $0 + counter($1.counters) }
        }
        func gauge(_ name: String, _ help: String, _ value: Int) { text.metric(name, .gauge, help, value) }
        func count(_ name: String, _ help: String, _ value: Int) { text.metric(name, .counter, help, value) }

        gauge("gavelcast_connections", "Open connections.", sum { $0.connections.current })
        text.metric(
            "gavelcast_watchers", .gauge, "Watching connections by transport.",
            [
                (labels: [("transport", "websocket")], value: sum { $0.webSockets.current }),
                (labels: [("transport", "sse")], value: sum { $0.eventStreams.current }),
                (labels: [("transport", "longpoll")], value: sum { $0.longPolls.current }),
            ])
        gauge(
            "gavelcast_subscriptions", "Auctions watched over connections with many.",
            sum { $0.subscriptions.current })
        gauge("gavelcast_channels", "Auctions subscribed in Redis.", shared.hubCounters.channels.current)
        gauge("gavelcast_backlogs", "Watchers whose socket is full.", sum { $0.backlogs.current })
        gauge(
            "gavelcast_history_bytes", "Bytes of events kept for replay.",
            shared.hubCounters.historyBytes.current)
        gauge("gavelcast_resident_bytes", "Resident memory.", ProcessMemory.residentBytes())
        count("gavelcast_accepted_total", "Connections accepted.", sum { $0.accepted.current })
        count("gavelcast_upgrades_total", "WebSocket handshakes completed.", sum { $0.upgrades.current })
        count("gavelcast_requests_total", "HTTP requests read.", sum { $0.requests.current })
        count(
            "gavelcast_refused_heads_total", "Malformed or oversized heads.", sum { $0.refusedHeads.current })
        count("gavelcast_protocol_errors_total", "WebSocket violations.", sum { $0.protocolErrors.current })
        count("gavelcast_tls_handshakes_total", "TLS handshakes completed.", sum { $0.handshakes.current })
        count(
            "gavelcast_tls_resumed_total", "TLS handshakes that took up a session.",
            sum { $0.handshakesResumed.current })
        count(
            "gavelcast_tls_failures_total", "TLS handshakes that failed.", sum { $0.handshakesFailed.current }
        )
        count("gavelcast_timeouts_total", "Connections that ran out of time.", sum { $0.timeouts.current })
        count("gavelcast_deliveries_total", "Events delivered or queued.", sum { $0.deliveries.current })
        count("gavelcast_delivered_bytes_total", "Bytes given to sockets.", sum { $0.deliveredBytes.current })
        count("gavelcast_snapshots_total", "Snapshots sent.", sum { $0.snapshots.current })
        count(
            "gavelcast_resumes_total", "Watchers that went on from their cursor.", sum { $0.resumes.current })
        count("gavelcast_conflated_total", "Bids merged into a newer one.", sum { $0.conflated.current })
        count("gavelcast_slow_closes_total", "Watchers closed as too slow.", sum { $0.slowCloses.current })
        count("gavelcast_over_capacity_total", "Connections refused.", sum { $0.overCapacity.current })
        count(
            "gavelcast_over_address_limit_total", "Connections of addresses that have too many.",
            sum { $0.overAddressLimit.current })
        count(
            "gavelcast_over_message_rate_total", "Clients closed because they sent too much.",
            sum { $0.overMessageRate.current })
        count(
            "gavelcast_accept_pauses_total", "Times a loop left new connections waiting.",
            sum { $0.acceptPauses.current })
        count("gavelcast_tokens_refused_total", "Tokens refused.", sum { $0.refusedTokens.current })
        count(
            "gavelcast_tokens_expired_total", "Watches ended with their token.",
            sum { $0.expiredTokens.current })
        count(
            "gavelcast_tokens_deferred_total", "Requests whose token waited for a later turn.",
            sum { $0.deferredTokens.current })
        gauge(
            "gavelcast_over_memory", "1 while new watchers are refused for want of memory.",
            shared.isOverMemory.load(ordering: .relaxed) ? 1 : 0)
        addHub(shared.hubCounters, to: &text)
        return text.text
    }

    private static func addHub(_ hub: HubCounters, to text: inout PrometheusText) {
        text.metric(
            "gavelcast_redis_links_delivering", .gauge, "Redis links whose probes come back.",
            hub.linksDelivering.current)
        text.metric(
            "gavelcast_redis_link_losses_total", .counter, "Redis links lost.", hub.linkLosses.current)
        text.metric(
            "gavelcast_redis_refusals_total", .counter,
            "Auctions and users whose channel or keys Redis refused to this gateway.",
            hub.refusedTopics.current)
        text.metric("gavelcast_events_total", .counter, "Events accepted from Redis.", hub.events.current)
        text.metric(
            "gavelcast_events_rejected_total", .counter, "Messages dropped, by reason.",
            EventEnvelope.Rejection.allCases.map { reason in
                (labels: [("reason", reason.label)], value: hub.withRejected(reason) { $0.current })
            })
        text.metric(
            "gavelcast_states_rejected_total", .counter, "Malformed states.", hub.rejectedStates.current)
        text.metric(
            "gavelcast_duplicates_total", .counter, "Events dropped as repeated.", hub.duplicates.current)
        text.metric("gavelcast_holes_total", .counter, "Jumps in a sequence.", hub.holes.current)
        text.metric(
            "gavelcast_holes_filled_total", .counter, "Holes filled from the log.", hub.holesFilled.current)
        text.metric("gavelcast_jumps_total", .counter, "Holes given up and declared.", hub.jumps.current)
        text.metric(
            "gavelcast_state_reads_total", .counter, "States read from Redis.", hub.stateReads.current)
        text.metric(
            "gavelcast_refused_reads_total", .counter, "Reads of states and logs that Redis refused.",
            hub.refusedReads.current)
        text.metric("gavelcast_log_reads_total", .counter, "Logs read from Redis.", hub.logReads.current)
        text.metric(
            "gavelcast_viewers_announced_total", .counter, "Numbers of viewers announced.",
            hub.viewersAnnounced.current)
        text.metric(
            "gavelcast_mailbox_overflows_total", .counter, "Events that did not fit the mailbox of a loop.",
            hub.mailboxOverflows.current)
    }

    static func stats(_ shared: Shared) -> [UInt8] {
        func sum(_ counter: (WorkerCounters) -> Int) -> Int {
            shared.workers.reduce(0) { $0 + counter($1.counters) }
        }
        var writer = JSONWriter()
        writer.object {
            $0.field("ready", shared.isReady)
            $0.field("draining", shared.isDraining.load(ordering: .relaxed))
            $0.field("workers", shared.workers.count)
            $0.key("connections")
            $0.object {
                $0.field("open", sum { $0.connections.current })
                $0.field("websocket", sum { $0.webSockets.current })
                $0.field("sse", sum { $0.eventStreams.current })
                $0.field("longpoll", sum { $0.longPolls.current })
                $0.field("subscriptions", sum { $0.subscriptions.current })
                $0.field("accepted", sum { $0.accepted.current })
            }
            $0.field("auctions", shared.hubCounters.channels.current)
            $0.key("memory")
            $0.object {
                $0.field("resident_bytes", ProcessMemory.residentBytes())
                $0.field("history_bytes", shared.hubCounters.historyBytes.current)
            }
            $0.field("events", shared.hubCounters.events.current)
            $0.field("deliveries", sum { $0.deliveries.current })
            $0.field("backlogs", sum { $0.backlogs.current })
        }
        return writer.bytes + [0x0A]
    }
}

extension HubCounters {
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
