-- Users, auctions, bids and the outbox. Money is in cents.
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
CREATE INDEX outbox_unpublished ON outbox (auction_id, seq) WHERE published_at IS NULL;
