-- One row that the primary counts up, so that the age of a replica's data is known.
CREATE TABLE replica_beat (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    beat bigint NOT NULL,
    origin text NOT NULL
) WITH (fillfactor = 10);
INSERT INTO replica_beat (beat, origin) VALUES (0, '');
