// Idempotency keys for requests that may be repeated. For a day, each key of a user stands for one request
// and its answer. The transaction that executes the request also claims the key, so either both happen or
// neither.

/// A request that carries a key.
package struct IdempotencyKey: Sendable, Hashable {
    package let userID: String
    package let key: String
    /// The request itself. A different request under the same key is the client's mistake.
    package let request: String

    package init(userID: String, key: String, request: String) {
        self.userID = userID
        self.key = key
        self.request = request
    }
}

/// The answer to a request, kept for its repeats.
package struct KeptAnswer: Sendable, Equatable {
    /// The HTTP status.
    package let status: Int
    package let body: String

    package init(status: Int, body: String) {
        self.status = status
        self.body = body
    }
}

package enum IdempotencyKeys {
    private static let lifetime = "interval '24 hours'"
    private static let purgeBatch = 2_000
    private static let hash = "encode(sha256(convert_to(c.request, 'UTF8')), 'hex')"

    /// What is stored under a key that could not be claimed.
    package enum Earlier: Sendable, Equatable {
        case answered(KeptAnswer)
        case otherRequest
    }

    /// True when the same request is stored under `key`. Does not claim the key.
    package static func isKnown(
        _ connection: PostgresConnection, _ key: IdempotencyKey
    ) throws(DatabaseError) -> Bool {
        let rows = try connection.query(
            """
            SELECT 1 FROM (SELECT $1 AS user_id, $2 AS key, $3 AS request) c
                JOIN idempotency_keys k USING (user_id, key)
            WHERE k.request_hash = \(hash) AND k.created_at > now() - \(lifetime)
            """, [key.userID, key.key, key.request])
        return !rows.isEmpty
    }

    /// Deletes keys that are over; true when there may be more.
    package static func purge(_ connection: PostgresConnection) throws(DatabaseError) -> Bool {
        try connection.query(
            """
            WITH old AS (SELECT user_id, key FROM idempotency_keys WHERE created_at < now() - \(lifetime)
                ORDER BY created_at LIMIT \(purgeBatch) FOR UPDATE SKIP LOCKED)
            DELETE FROM idempotency_keys k USING old WHERE k.user_id = old.user_id AND k.key = old.key
            RETURNING 1
            """
        ).count == purgeBatch
    }

    /// Claims distinct keys for users that exist. Waits for a transaction that is claiming one of them. A key
    /// that is already taken does not affect the others. Run ``reading(_:)`` next.
    static func claiming(_ keys: [IdempotencyKey]) -> Statement {
        Statement(
            """
            INSERT INTO idempotency_keys AS k (user_id, key, request_hash)
            SELECT c.user_id, c.key, \(hash)
            FROM unnest($1::text[], $2::text[], $3::text[]) AS c (user_id, key, request)
                JOIN users u ON u.user_id = c.user_id
            ORDER BY c.user_id, c.key
            ON CONFLICT (user_id, key) DO UPDATE SET request_hash = excluded.request_hash, created_at = now(),
                status = NULL, body = NULL
                WHERE k.created_at < now() - \(lifetime)
            RETURNING k.user_id, k.key
            """, columns(keys))
    }

    /// What stands under some keys, also of several requests under one key.
    static func reading(_ keys: [IdempotencyKey]) -> Statement {
        Statement(
            """
            SELECT k.user_id, k.key, (k.request_hash = \(hash))::integer, k.status, k.body, c.number - 1
            FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS c (user_id, key, request, number)
                JOIN idempotency_keys k ON k.user_id = c.user_id AND k.key = c.key
            """, columns(keys))
    }

    /// Decodes a row of ``reading(_:)`` whose key was claimed before.
    static func earlier(_ read: Rows, _ row: Int) throws(DatabaseError) -> Earlier {
        guard try read.integer(row, 2) == 1 else { return .otherRequest }
        guard let status = read[row, 3].flatMap({ Int($0) }), (100...599).contains(status) else {
            throw .unreadable("the status that is kept under a key of \(read.text(row, 0))")
        }
        return .answered(KeptAnswer(status: status, body: read.text(row, 4)))
    }

    /// The index of a row's key among the keys that were passed to ``reading(_:)``.
    static func index(_ read: Rows, _ row: Int) throws(DatabaseError) -> Int {
        Int(try read.integer(row, 5))
    }

    /// Releases keys that this transaction has claimed.
    static func releasing(_ keys: [(userID: String, key: String)]) -> Statement {
        Statement(
            """
            DELETE FROM idempotency_keys k USING unnest($1::text[], $2::text[]) AS c (user_id, key)
            WHERE k.user_id = c.user_id AND k.key = c.key
            """, [PostgresText.array(keys.map(\.userID)), PostgresText.array(keys.map(\.key))])
    }

    /// Keeps the answers of claimed keys, each under the request that it answers.
    static func keeping(_ answers: [(key: IdempotencyKey, answer: KeptAnswer)]) -> Statement {
        Statement(
            """
            UPDATE idempotency_keys k SET request_hash = \(hash), status = c.status, body = c.body
            FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
                AS c (user_id, key, request, status, body)
            WHERE k.user_id = c.user_id AND k.key = c.key
            """,
            columns(answers.map(\.key)) + [
                PostgresText.array(answers.map { Int64($0.answer.status) }),
                PostgresText.array(answers.map(\.answer.body)),
            ])
    }

    private static func columns(_ keys: [IdempotencyKey]) -> [String?] {
        [
            PostgresText.array(keys.map(\.userID)), PostgresText.array(keys.map(\.key)),
            PostgresText.array(keys.map(\.request)),
        ]
    }
}
