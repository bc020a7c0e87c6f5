-- What failed logins have taught. A source is an address, or a network around it; failures are remembered as hashes.
CREATE TABLE source(
    source        TEXT PRIMARY KEY,
    widest        TEXT NOT NULL,
    failures      BLOB NOT NULL,
    last          INTEGER NOT NULL,
    refused_until INTEGER NOT NULL DEFAULT 0,
    attacked      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX source_attacked ON source(widest, attacked) WHERE attacked > 0;
CREATE INDEX source_last ON source(last);

-- Networks that were seen attacking.
CREATE TABLE sighting(
    network TEXT PRIMARY KEY,
    since   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    why     TEXT NOT NULL
) WITHOUT ROWID;

-- Mailboxes that failed from networks that they do not know.
CREATE TABLE guard(
    account  TEXT PRIMARY KEY,
    failures BLOB NOT NULL,
    last     INTEGER NOT NULL,
    until    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Networks that anybody was used well from. Days count from the epoch (UTC).
CREATE TABLE good_network(network TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO good_network SELECT network, min(first), max(last) FROM known_network GROUP BY network;
