-- Proxy bids and buy-now. A bid names the amount it has beaten, so that an auction's bids can only be stored as one
-- chain of rising amounts.
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
    ADD FOREIGN KEY (auction_id, beaten_amount) REFERENCES bids (auction_id, amount);
