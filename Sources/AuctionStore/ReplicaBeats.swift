// How far a replica lags behind. About twice a second, each bid API increments a counter in a row on the
// primary. Each new number is a beat. The bid API remembers when it asked for the beat. A replica that has a
// beat also has everything that was committed before it, so its data are at most as old as that moment. The
// replica's own clock and statistics are not needed. The replication must be physical: logical replication
// may apply one table before another.

/// One beat as a row holds it.
package struct ReplicaBeat: Sendable, Equatable {
    let number: Int64
    /// When the primary that counted it was started. A replica of another primary has other beats.
    let origin: String

    package init(number: Int64, origin: String) {
        self.number = number
        self.origin = origin
    }

    /// Counts the next beat on the primary.
    package static func next(_ connection: PostgresConnection) throws(DatabaseError) -> ReplicaBeat {
        try read(
            connection,
            """
            UPDATE replica_beat SET beat = beat + 1, origin = pg_postmaster_start_time()::text
            RETURNING beat, origin
            """)
    }

    /// The last beat that a replica has.
    package static func last(_ connection: PostgresConnection) throws(DatabaseError) -> ReplicaBeat {
        try read(connection, "SELECT beat, origin FROM replica_beat")
    }

    private static func read(
        _ connection: PostgresConnection, _ sql: String
    ) throws(DatabaseError) -> ReplicaBeat {
        let rows = try connection.query(sql)
        guard !rows.isEmpty else { throw .unreadable("replica_beat has no row") }
        return ReplicaBeat(number: try rows.integer(0, 0), origin: rows.text(0, 1))
    }
}

/// The beats that one bid API has counted lately. Pure: the time comes in, in milliseconds of any one clock.
package struct ReplicaBeats: Sendable {
    private let limitMilliseconds: Int64
    /// In order. Bounded by the limit and the rate of beats.
    private var beats: [(beat: ReplicaBeat, askedAt: Int64)] = []

    /// - Parameter limitMilliseconds: older data are of no use.
    package init(limitMilliseconds: Int64) {
        self.limitMilliseconds = limitMilliseconds
    }

    /// The primary has counted a beat.
    /// - Parameter askedAt: a moment before the primary was asked.
    package mutating func record(_ beat: ReplicaBeat, askedAt: Int64) {
        // Another primary, or one that was restored: what was counted before says nothing about its replicas.
        if let last = beats.last?.beat, last.origin != beat.origin || last.number >= beat.number {
            beats = []
        }
        beats.removeAll { askedAt - $0.askedAt > limitMilliseconds }
        beats.append((beat, askedAt))
    }

    /// The data of a replica that has `beat` are at most this old, in milliseconds. `nil` when they are older
    /// than the limit, or when nothing is known about them.
    package func ageMilliseconds(of beat: ReplicaBeat, now: Int64) -> Int64? {
        let reached = beats.last { $0.beat.origin == beat.origin && $0.beat.number <= beat.number }
        guard let reached, case let age = now - reached.askedAt, age <= limitMilliseconds else { return nil }
        return age
    }
}
