// The schema, as a list of steps that are applied once each, whichever bid API comes first.

package enum Migrations {
    /// Any fixed number; every bid API takes the same lock.
    private static let lockKey = "7301920443"

    /// Brings the database up to date. Concurrent callers wait for each other.
    package static func apply(_ connection: PostgresConnection) throws(DatabaseError) {
        try connection.query("SELECT pg_advisory_lock(\(lockKey))")
        do throws(DatabaseError) {
            try applyMissing(connection)
        } catch {
            // A lost connection gives the lock back by itself.
            if !connection.isBroken { try connection.query("SELECT pg_advisory_unlock(\(lockKey))") }
            throw error
        }
        try connection.query("SELECT pg_advisory_unlock(\(lockKey))")
    }

    private static func applyMissing(_ connection: PostgresConnection) throws(DatabaseError) {
        try connection.script(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
                version integer PRIMARY KEY,
                applied_at timestamptz NOT NULL DEFAULT now())
            """)
        let newest = Int(
            try connection.query("SELECT coalesce(max(version), 0) FROM schema_migrations").integer(0, 0))
        for (index, step) in steps.enumerated() where index + 1 > newest {
            try connection.script(
                "BEGIN; \(step); INSERT INTO schema_migrations (version) VALUES (\(index + 1)); COMMIT")
        }
    }

    /// Never edited once released; a change is a new step. Money is in cents.
    private static let steps = [
        """
        CREATE TABLE users (
            user_id text PRIMARY KEY,
            username text NOT NULL,
            email text NOT NULL,
            password_hash text NOT NULL,
            role text NOT NULL DEFAULT 'user',
            banned_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now());
        CREATE UNIQUE INDEX users_username ON users (lower(username));
        CREATE UNIQUE INDEX users_email ON users (lower(email));

        CREATE TABLE auctions (
            auction_id text PRIMARY KEY,
            seller_id text NOT NULL REFERENCES users,
            title text NOT NULL,
            description text NOT NULL,
            category text NOT NULL,
            currency text NOT NULL,
            image_urls text[] NOT NULL,
            starting_price bigint NOT NULL,
            reserve_price bigint,
            increments text NOT NULL,
            starts_at timestamptz NOT NULL,
            ends_at timestamptz NOT NULL,
            status text NOT NULL,
            leader_id text REFERENCES users,
            current_price bigint NOT NULL,
            bid_count integer NOT NULL DEFAULT 0,
            -- The last event's sequence number, and the public state at it, as it goes to Redis.
            seq bigint NOT NULL DEFAULT 0,
            state text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 80);
        CREATE INDEX auctions_by_end ON auctions (status, ends_at);
        CREATE INDEX auctions_by_start ON auctions (starts_at) WHERE status = 'scheduled';
        CREATE INDEX auctions_by_creation ON auctions (created_at DESC, auction_id);

        CREATE TABLE bids (
            bid_id text PRIMARY KEY,
            auction_id text NOT NULL REFERENCES auctions,
            seq bigint NOT NULL,
            bidder_id text NOT NULL REFERENCES users,
            bidder text NOT NULL,
            amount bigint NOT NULL,
            is_proxy boolean NOT NULL,
            bid_at timestamptz NOT NULL,
            UNIQUE (auction_id, seq));

        -- Events to publish; row 0 of an auction stands for its creation, which has a state and no event.
        CREATE TABLE outbox (
            auction_id text NOT NULL REFERENCES auctions,
            seq bigint NOT NULL,
            event text NOT NULL,
            published_at timestamptz,
            PRIMARY KEY (auction_id, seq));
        CREATE INDEX outbox_unpublished ON outbox (auction_id, seq) WHERE published_at IS NULL
        """,
        // Proxy bids and buy-now. A bid names the amount it has beaten, so that an auction's bids can only be stored as
        // one chain of rising amounts.
        """
        ALTER TABLE auctions ADD buy_now_price bigint, ADD leader_max bigint;
        UPDATE auctions SET leader_max = current_price WHERE leader_id IS NOT NULL;
        ALTER TABLE auctions
            ADD CHECK (starting_price > 0 AND current_price >= starting_price),
            ADD CHECK (reserve_price >= starting_price), ADD CHECK (buy_now_price > starting_price),
            ADD CHECK ((leader_id IS NULL) = (bid_count = 0)), ADD CHECK ((leader_id IS NULL) = (leader_max IS NULL)),
            ADD CHECK (leader_max >= current_price), ADD CHECK (ends_at > starts_at),
            ADD CHECK (status IN ('scheduled', 'active', 'sold', 'unsold', 'cancelled'));

        ALTER TABLE bids ADD beaten_amount bigint, ADD UNIQUE (auction_id, amount);
        UPDATE bids b SET beaten_amount = p.amount
            FROM (SELECT bid_id, lag(amount) OVER (PARTITION BY auction_id ORDER BY seq) AS amount FROM bids) p
            WHERE p.bid_id = b.bid_id;
        ALTER TABLE bids
            ADD CHECK (amount > coalesce(beaten_amount, 0)),
            ADD UNIQUE NULLS NOT DISTINCT (auction_id, beaten_amount),
            ADD FOREIGN KEY (auction_id, beaten_amount) REFERENCES bids (auction_id, amount)
        """,
        // Requests that may be repeated. Status and body are set before the transaction ends that claims a key.
        """
        CREATE TABLE idempotency_keys (
            user_id text NOT NULL REFERENCES users,
            key text NOT NULL CHECK (length(key) BETWEEN 1 AND 64),
            request_hash text NOT NULL,
            status integer,
            body text,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, key));
        CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)
        """,
    ]
}
