-- One counter, which each bid API increments on the primary. Its value on a replica bounds the age of the
-- replica's data. The low fillfactor leaves room in the page for these frequent updates.
CREATE TABLE replica_beat (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    beat bigint NOT NULL,
    origin text NOT NULL
) WITH (fillfactor = 10);
INSERT INTO replica_beat (beat, origin) VALUES (0, '');
