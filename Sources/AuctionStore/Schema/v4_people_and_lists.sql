-- Watchlists, notifications, the audit log; what lists are sorted by; and sequence numbers without gaps.

CREATE TABLE watchlist (
    user_id text NOT NULL REFERENCES users,
    auction_id text NOT NULL REFERENCES auctions,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, auction_id));
CREATE INDEX watchlist_by_time ON watchlist (user_id, added_at DESC, auction_id);

-- Written in the transaction that gives the reason; pushed afterwards, as long as they are news.
CREATE TABLE notifications (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id text NOT NULL DEFAULT 'ntf_' || replace(gen_random_uuid()::text, '-', ''),
    user_id text NOT NULL REFERENCES users,
    type text NOT NULL CHECK (type IN ('OUTBID', 'AUCTION_WON', 'AUCTION_LOST', 'AUCTION_SOLD', 'AUCTION_UNSOLD')),
    auction_id text NOT NULL REFERENCES auctions,
    amount bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    pushed_at timestamptz);
CREATE INDEX notifications_of_user ON notifications (user_id, number DESC);
CREATE INDEX notifications_to_push ON notifications (number) WHERE pushed_at IS NULL;

CREATE TABLE audit_log (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    admin_id text NOT NULL REFERENCES users,
    action text NOT NULL,
    auction_id text REFERENCES auctions,
    user_id text REFERENCES users,
    reason text NOT NULL,
    details text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());

-- How much was bid lately, in a form that needs no decay: the logarithm of the bids, each weighted with e^(its hour).
-- The whole steps that the index holds change rarely, so that most bids leave every index alone.
ALTER TABLE auctions ADD activity double precision NOT NULL DEFAULT 0;
ALTER TABLE auctions ADD trend integer NOT NULL GENERATED ALWAYS AS (floor(activity * 2)::integer) STORED;

-- A day after its end an auction's events are forgotten, as Redis forgets them.
ALTER TABLE auctions ADD ended_at timestamptz, ADD is_forgotten boolean NOT NULL DEFAULT false;
UPDATE auctions SET ended_at = ends_at WHERE status NOT IN ('scheduled', 'active');
ALTER TABLE auctions ADD CHECK ((ended_at IS NULL) = (status IN ('scheduled', 'active')));
CREATE INDEX auctions_to_compare ON auctions (auction_id) WHERE NOT is_forgotten;
CREATE INDEX auctions_to_forget ON auctions (ended_at) WHERE NOT is_forgotten AND ended_at IS NOT NULL;

CREATE INDEX auctions_live_by_end ON auctions (ends_at, auction_id) WHERE status IN ('scheduled', 'active');
CREATE INDEX auctions_live_by_trend ON auctions (trend DESC, auction_id) WHERE status IN ('scheduled', 'active');
CREATE INDEX auctions_live_by_category ON auctions (category, ends_at, auction_id)
    WHERE status IN ('scheduled', 'active');
CREATE INDEX auctions_of_seller ON auctions (seller_id, created_at DESC, auction_id);

-- The words of an auction as they are written, for their beginnings, and as English has them, for their forms. Cut
-- at everything but letters and digits, as the words of a search are.
CREATE FUNCTION auction_words(title text, category text, description text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('simple', words) || to_tsvector('english', words) FROM (
        SELECT regexp_replace(lower((title || ' ' || category || ' ' || description) COLLATE "und-x-icu"),
            '[^[:alnum:]]+', ' ', 'g') AS words) w
$$;
CREATE INDEX auctions_by_words ON auctions USING gin (auction_words(title, category, description));

CREATE INDEX bids_of_user ON bids (bidder_id, bid_at DESC, bid_id DESC);

-- A bid is found by its auction; its id is for those who were told it.
ALTER TABLE bids DROP CONSTRAINT bids_pkey, DROP CONSTRAINT bids_auction_id_seq_key, ADD PRIMARY KEY (auction_id, seq);

-- How long events wait to be published is watched.
ALTER TABLE outbox ADD created_at timestamptz NOT NULL DEFAULT now();

-- An auction's sequence number moves only over events that are stored with it.
CREATE FUNCTION auctions_seq_without_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM outbox WHERE auction_id = NEW.auction_id AND seq > OLD.seq) <> NEW.seq - OLD.seq THEN
        RAISE EXCEPTION 'auction %: seq goes from % to % without its events', NEW.auction_id, OLD.seq, NEW.seq
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER auctions_seq_without_gap AFTER UPDATE OF seq ON auctions
    FOR EACH ROW WHEN (OLD.seq IS DISTINCT FROM NEW.seq) EXECUTE FUNCTION auctions_seq_without_gap();
