-- Requests that may be repeated. Status and body are set before the transaction ends that claims a key.
CREATE TABLE idempotency_keys (
    user_id text NOT NULL REFERENCES users,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 64),
    request_hash text NOT NULL,
    status integer,
    body text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key));
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
