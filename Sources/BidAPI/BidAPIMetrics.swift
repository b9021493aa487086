// The bid API's metrics.

import AuctionStore
import Telemetry

/// What a scrape reads.
struct BidAPIReading: Sendable {
    let services: Services
    /// `nil` when PostgreSQL does not answer in time.
    let backlog: (events: Int, oldestSeconds: Int)?

    var counters: BidAPICounters { services.counters }
    var relay: RelayCounters { services.relay.counters }
}

enum BidAPIMetrics {
    /// To add a metric, add a line here.
    static let table: [Metric<BidAPIReading>] = [
        Metric(.counter, "gavelcast_bids_total", "Bids by result.") { reading in
            .numbers(
                label: "result",
                BidAPICounters.BidResult.allCases.map { ($0.label, reading.counters.current($0)) })
        },
        Metric(.histogram, "gavelcast_bid_seconds", "From a bid's arrival to its answer.") {
            var snapshot = $0.counters.bidSeconds.snapshot
            snapshot.exemplars = $0.services.traces.exemplars.all
            return .histogram(snapshot)
        },
        Metric(
            .counter, "gavelcast_spans_dropped_total", "Spans of traces that could not be written."
        ) {
            .number($0.services.traces.dropped)
        },
        Metric(.histogram, "gavelcast_request_seconds", "From a request to its answer, by route and status.")
        {
            $0.counters.routes.value
        },
        Metric(.histogram, "gavelcast_bid_batch_size", "Bids decided in one transaction.") {
            .histogram($0.counters.batchBids.snapshot)
        },
        Metric(
            .histogram, "gavelcast_bid_transaction_seconds", "How long transactions that decide bids take."
        ) {
            .histogram($0.counters.transactionSeconds.snapshot)
        },
        Metric(
            .histogram, "gavelcast_bid_commit_seconds",
            "How long the last round trip of a transaction takes: its writes and COMMIT."
        ) {
            .histogram($0.counters.commitSeconds.snapshot)
        },
        Metric(
            .histogram, "gavelcast_database_wait_seconds",
            "How long work waits for a connection to PostgreSQL, by pool."
        ) {
            .histograms(
                $0.counters.waits.map { name, wait in (labels: [("pool", name)], snapshot: wait.snapshot) })
        },
        Metric(
            .counter, "gavelcast_limits_uncounted_total",
            "Actions let through because Redis did not count them."
        ) {
            .number($0.counters.uncountedActions.current)
        },
        Metric(.counter, "gavelcast_auctions_created_total", "Auctions created.") {
            .number($0.counters.createdAuctions.current)
        },
        Metric(.counter, "gavelcast_auctions_clocked_total", "Auctions started or ended by the clock.") {
            .number($0.counters.endedOrStarted.current)
        },
        Metric(.histogram, "gavelcast_closer_lag_seconds", "How late auctions were started or ended.") {
            .histogram($0.counters.closerLagSeconds.snapshot)
        },
        Metric(.counter, "gavelcast_replica_reads_total", "Lists and histories that the replica served.") {
            .number($0.counters.replicaReads.current)
        },
        Metric(
            .counter, "gavelcast_replica_misses_total",
            "Lists and histories that the replica could not serve."
        ) {
            .number($0.counters.replicaMisses.current)
        },
        Metric(.gauge, "gavelcast_outbox_events", "Events that wait to be published.") {
            $0.backlog.map { .number($0.events) } ?? .missing
        },
        Metric(.gauge, "gavelcast_outbox_age_seconds", "How long the oldest unpublished event has waited.") {
            $0.backlog.map { .number($0.oldestSeconds) } ?? .missing
        },
        Metric(
            .counter, "gavelcast_rows_unreadable_total",
            "Rows that were left out because this version cannot read them."
        ) {
            .number($0.services.unreadable.count.current)
        },
        Metric(.counter, "gavelcast_relay_published_total", "Events brought to Redis.") {
            .number($0.relay.published.current)
        },
        Metric(.counter, "gavelcast_relay_pushed_total", "Notifications pushed to users.") {
            .number($0.relay.pushed.current)
        },
        Metric(.counter, "gavelcast_relay_refills_total", "Auctions written anew to Redis.") {
            .number($0.relay.refilled.current)
        },
        Metric(
            .counter, "gavelcast_relay_redis_ahead_total",
            "Auctions whose state in Redis was ahead of PostgreSQL."
        ) {
            .number($0.relay.aheadOfDatabase.current)
        },
        Metric(.counter, "gavelcast_relay_redis_failures_total", "Failed calls to Redis.") {
            .number($0.relay.redisFailures.current)
        },
    ]
}
